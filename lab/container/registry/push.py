"""Images from the store into a registry: what it has is not sent again, nor what it has elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from lab.container.image import indexes
from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore, StoredImage
from lab.container.registry.client import Document, Repository
from lab.container.registry.progress import Observer, Step
from lab.container.registry.session import Session
from lab.container.registry.upload import Progress, begin, upload
from lab.container.spec.image import Descriptor, ImageConfig, Manifest, Platform
from lab.errors import ContainerError, DigestMismatch, RegistryError

UPLOADS = 5
"""How many layers are sent at once, as docker does."""
_MOUNTS_MAX = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What was pushed: the digest and the size of its manifest or index, and whether that is a part of what is there.

    ``image`` is the image, of an index this host's. ``of_index`` is the digest of the index of which only this one
    image is in the store, "" otherwise.
    """

    image: StoredImage
    digest: str
    size_bytes: int
    of_index: str = ""


def push(
    session: Session, store: ImageStore, reference: Reference, observer: Observer, platform: Platform | None = None
) -> Pushed:
    """Have an image of the store at the registry that its name means; layers that arrived stay if that fails.

    An index goes with all its images, where they are here or there; if only one is, that one goes alone, as is the one
    for ``platform``.

    Raises:
        ImageNotFound: there is no such image, or none for this platform.
        RegistryError: the registry refuses it, or cannot be reached; or images of the index are missing.
        DigestMismatch: a blob in the store is damaged.
    """
    with store.content_shared():
        image = store.resolve(reference.familiar, platform)
        repository = session.repository(reference)
        pusher = _Pusher(session, store, repository, observer, reference)
        entry = _what_goes(store, reference, image, repository, whole=platform is None)
        for inner in _manifests_first(store, entry):
            pusher.push(inner)
            repository.put_manifest(inner.digest, _document(store, inner))
        if not indexes.is_index(entry):
            pusher.push(entry)
        document = _document(store, entry)
        repository.put_manifest(reference.tag, document)
        store.add_manifest(replace(reference, tag="", digest=document.digest).familiar, entry)
    whole = store.descriptor(reference.familiar)
    is_part = platform is None and whole.digest != entry.digest
    return Pushed(
        image=image,
        digest=document.digest,
        size_bytes=len(document.data),
        of_index=whole.digest if is_part else "",
    )


def _what_goes(
    store: ImageStore, reference: Reference, image: StoredImage, repository: Repository, *, whole: bool
) -> Descriptor:
    """Return the index, if all that it names is here or at the registry, else the only image of it that is here."""
    entry = store.descriptor(reference.familiar)
    if not indexes.is_index(entry):
        return entry
    one = next(each for each in indexes.images(store.blobs, entry) if each.digest == image.manifest_digest)
    if not whole:
        return replace(one, annotations={}, platform=None)
    named = tuple(indexes.below(store.blobs, entry))
    missing = [each for each in named if not store.blobs.has(each.digest) and not repository.has_manifest(each.digest)]
    if not missing:
        return entry
    if len(indexes.images(store.blobs, entry)) == 1:
        return replace(one, annotations={}, platform=None)
    told = ", ".join(str(each.platform) if each.platform else each.digest for each in missing)
    raise RegistryError(
        f"not all that {reference.familiar} names is here, or in {repository.name}: {told}",
        hint=f"lab pull --all-platforms {reference.familiar}, or push one of them: --platform",
    )


def _manifests_first(store: ImageStore, entry: Descriptor) -> Iterator[Descriptor]:
    """Give what an index names and is here, what names others after those; of a manifest nothing."""
    if indexes.is_index(entry):
        yield from (each for each in indexes.below(store.blobs, entry) if store.blobs.has(each.digest))


def _document(store: ImageStore, entry: Descriptor) -> Document:
    return Document(media_type=entry.media_type, digest=entry.digest, data=store.blobs.read(entry.digest))


class _Pusher:
    """Sends what a manifest names."""

    def __init__(
        self, session: Session, store: ImageStore, repository: Repository, observer: Observer, reference: Reference
    ) -> None:
        self._session, self._store, self._repository, self._observer = session, store, repository, observer
        self._reference = reference

    def push(self, entry: Descriptor) -> None:
        """Have all layers that a manifest names at the registry, and its configuration after them; of an index none."""
        if indexes.is_index(entry):
            return
        manifest = Manifest.from_json(self._store.blobs.read(entry.digest))
        shown = self._shown(manifest)
        layers = {layer.digest: layer for layer in manifest.layers}
        for digest in reversed(layers):
            self._observer.layer(shown[digest], Step.PREPARING)
        origins = _origins(self._store, self._reference, layers)
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

    def _shown(self, manifest: Manifest) -> dict[str, str]:
        """Return how each layer is called: as docker does, by its diff id, which what is no image has not."""
        try:
            diff_ids = ImageConfig.from_json(self._store.blobs.read(manifest.config.digest)).rootfs.diff_ids
        except DigestMismatch:
            raise
        except ContainerError:
            diff_ids = ()
        digests = [layer.digest for layer in manifest.layers]
        return dict(zip(digests, diff_ids if len(diff_ids) == len(digests) else digests, strict=True))

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
