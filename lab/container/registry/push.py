"""Images from the store into a registry: what it has is not sent again, nor what it has elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore, StoredImage
from lab.container.registry.client import Document, Repository
from lab.container.registry.progress import Observer, Step
from lab.container.registry.session import Session
from lab.container.registry.upload import Progress, begin, upload
from lab.container.spec.image import Descriptor, Manifest
from lab.errors import RegistryError

UPLOADS = 5
"""How many layers are sent at once, as docker does."""
_MOUNTS_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """An image that was pushed: the digest and the size of its manifest."""

    image: StoredImage
    digest: str
    size_bytes: int


def push(session: Session, store: ImageStore, reference: Reference, observer: Observer) -> Pushed:
    """Have an image of the store at the registry that its name means; layers that arrived stay if that fails.

    Raises:
        ImageNotFound: there is no such image.
        RegistryError: the registry refuses it, or cannot be reached.
        DigestMismatch: a blob in the store is damaged.
    """
    with store.content_shared():
        image = store.resolve(reference.familiar)
        data = store.blobs.read(image.manifest_digest)
        manifest = Manifest.from_json(data)
        repository = session.repository(reference)
        _Pusher(session, store, repository, observer).push(image, manifest, reference)
        document = Document(media_type=manifest.media_type, digest=image.manifest_digest, data=data)
        repository.put_manifest(reference.tag, document)
        descriptor = Descriptor(media_type=manifest.media_type, digest=document.digest, size=len(data))
        store.add_manifest(replace(reference, tag="", digest=document.digest).familiar, descriptor)
    return Pushed(image=image, digest=document.digest, size_bytes=len(data))


class _Pusher:
    """Sends what a manifest names."""

    def __init__(self, session: Session, store: ImageStore, repository: Repository, observer: Observer) -> None:
        self._session, self._store, self._repository, self._observer = session, store, repository, observer

    def push(self, image: StoredImage, manifest: Manifest, reference: Reference) -> None:
        """Have all layers of an image at the registry, and its configuration after them."""
        shown = {
            layer.digest: diff_id for layer, diff_id in zip(image.layers, image.config.rootfs.diff_ids, strict=True)
        }
        layers = {layer.digest: layer for layer in manifest.layers}
        for digest in reversed(layers):
            self._observer.layer(shown[digest], Step.PREPARING)
        origins = _origins(self._store, reference, layers)
        with ThreadPoolExecutor(UPLOADS, "push") as threads:
            sent = [
                threads.submit(self._send, layer, shown[layer.digest], origins.get(layer.digest, ()))
                for layer in layers.values()
            ]
            try:
                done, _ = wait(sent, return_when=FIRST_EXCEPTION)
                for each in done:
                    each.result()
            except BaseException:
                self._session.exchange.transport.cancel()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        if not self._repository.has_blob(manifest.config.digest):
            self._upload(manifest.config, lambda _: None)

    def _send(self, layer: Descriptor, shown: str, origins: Sequence[str]) -> None:
        if self._repository.has_blob(layer.digest):
            self._observer.layer(shown, Step.THERE)
            return
        for origin in origins[:_MOUNTS_MAX]:
            if self._is_mounted(layer, origin):
                self._observer.layer(shown, Step.MOUNTED, detail=origin)
                return

        def progress(done_bytes: int) -> None:
            self._observer.layer(shown, Step.PUSHING, done_bytes=done_bytes, of_bytes=layer.size)

        self._upload(layer, progress)
        self._observer.layer(shown, Step.PUSHED)

    def _is_mounted(self, layer: Descriptor, origin: str) -> bool:
        """Try to take a layer over from another repository; the upload that a registry offers instead is left alone."""
        try:
            return begin(self._repository, layer.digest, mount_from=origin) is None
        except RegistryError as error:
            if error.status in (401, 403, 404):  # that repository is not for us, or is gone
                return False
            raise

    def _upload(self, blob: Descriptor, progress: Progress) -> None:
        begun = begin(self._repository, blob.digest)
        assert begun is not None  # nothing was to be mounted
        upload(self._store.blobs, self._repository, blob, begun, progress)


def _origins(store: ImageStore, target: Reference, wanted: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return for each layer the other repositories of the registry that have it, as far as this store has seen."""
    found: dict[str, dict[str, None]] = {digest: {} for digest in wanted}
    for image, names in store.grouped():
        known = [
            name.path for name in names if name.digest and name.registry == target.registry and name.path != target.path
        ]
        for layer in image.layers:
            if layer.digest in found:
                found[layer.digest].update(dict.fromkeys(known))
    return {digest: tuple(repositories) for digest, repositories in found.items()}
