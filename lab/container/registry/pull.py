"""Images from a registry into the store: layers side by side, each unpacked as soon as those below it are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore, StoredImage
from lab.container.registry.client import INDEXES, Document, Repository
from lab.container.registry.download import download
from lab.container.registry.platforms import select
from lab.container.registry.progress import Observer, Step
from lab.container.registry.session import Session
from lab.container.registry.transport import Cancelled
from lab.container.spec.image import Descriptor, ImageConfig, Index, Manifest, Platform
from lab.container.storage.layers import LayerSource, chain_ids
from lab.errors import ContainerError, DigestMismatch, ImageNotFound, RegistryError

DOWNLOADS = 3
"""How many layers are fetched at once, as docker does."""
_NESTED_MAX = 4
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An image that was pulled; ``digest`` is that of its manifest or index at the registry."""

    image: StoredImage
    digest: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What is to be pulled, for which platform if there is a choice; ``unpack`` as a container needs it: takes root."""

    reference: Reference
    platform: Platform
    unpack: bool


def pull(session: Session, store: ImageStore, wanted: Pull, observer: Observer) -> Pulled:
    """Have an image in the store under its name, and under its digest; finished layers stay if that fails.

    Raises:
        RegistryError: the registry has none, refuses it, or cannot be reached.
        DigestMismatch: what came is something else.
        LayerCorrupt: a layer cannot be unpacked.
        KernelError: it cannot be written.
    """
    reference = wanted.reference
    with store.content_shared():
        repositories, document = _resolved(session, reference)
        tag = reference.digest or reference.tag
        observer.told(f"{reference if reference.digest else tag}: Pulling from {reference.path}")
        manifest = _for_platform(repositories[0], document, wanted)
        before = _id_of(store, reference.familiar)
        _Puller(session, store, repositories, observer, unpack=wanted.unpack).pull(manifest, wanted)
        descriptor = _descriptor(manifest)
        by_digest = replace(reference, tag="", digest=document.digest)
        image = store.add_manifest(by_digest.familiar, descriptor)
        if not reference.digest:
            image = store.add_manifest(reference.familiar, descriptor)
    return Pulled(image=image, digest=document.digest, is_new=before != image.config_digest)


def _id_of(store: ImageStore, name: str) -> str:
    try:
        return store.resolve(name).config_digest
    except ImageNotFound:
        return ""


def _resolved(session: Session, reference: Reference) -> tuple[Sequence[Repository], Document]:
    """Return who has the image, the best first, and its manifest or index; a mirror that fails is passed over."""
    *mirrors, last = session.repositories(reference)
    failures: list[str] = []
    for position, mirror in enumerate(mirrors):
        try:
            return (*mirrors[position:], last), mirror.manifest(reference.digest or reference.tag)
        except (RegistryError, DigestMismatch) as error:
            failures.append(f"the mirror {mirror.registry.host} failed before: {error}")
    try:
        return (last,), last.manifest(reference.digest or reference.tag)
    except RegistryError as error:
        if not failures:
            raise
        told = "; ".join((str(error), *failures))
        raise RegistryError(told, status=error.status, hint=error.hint) from error


def _for_platform(repository: Repository, document: Document, wanted: Pull) -> Document:
    """Return the manifest itself, or of an index the one for the platform."""
    subject = wanted.reference.familiar
    for _ in range(_NESTED_MAX):
        if document.media_type not in INDEXES:
            return document
        entry = select(Index.from_json(document.data), wanted.platform, subject=subject)
        document = repository.manifest(entry.digest)
    raise RegistryError(f"the indexes of {subject} are nested too deeply")


def _descriptor(document: Document) -> Descriptor:
    return Descriptor(media_type=document.media_type, digest=document.digest, size=len(document.data))


class _Puller:
    """Fetches what a manifest names."""

    def __init__(
        self,
        session: Session,
        store: ImageStore,
        repositories: Sequence[Repository],
        observer: Observer,
        *,
        unpack: bool,
    ) -> None:
        self._session, self._store, self._repositories, self._observer = session, store, repositories, observer
        self._unpack = unpack

    def pull(self, document: Document, wanted: Pull) -> None:
        """Have all blobs of an image in the store, the manifest last."""
        manifest = Manifest.from_json(document.data)
        config = self._config(manifest.config, wanted)
        sources = _sources(manifest, config)
        missing = self._announce(sources, is_known=bool(_id_of(self._store, document.digest)))
        with ThreadPoolExecutor(DOWNLOADS, "pull") as threads:
            try:
                fetched = {layer.digest: threads.submit(self._fetch, layer) for layer in missing}
                self._take(sources, fetched)
            except BaseException:
                self._session.exchange.transport.cancel()
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        self._store.blobs.add(document.data)

    def _config(self, descriptor: Descriptor, wanted: Pull) -> ImageConfig:
        self._download(descriptor, _Silent())
        try:
            config = ImageConfig.from_json(self._store.blobs.read(descriptor.digest))
        except ContainerError as error:
            told = f"{wanted.reference.familiar} is no image of a container, but {descriptor.media_type}: {error}"
            raise RegistryError(told) from error
        return config

    def _announce(self, sources: Sequence[LayerSource], *, is_known: bool) -> list[Descriptor]:
        """Tell what is there and what is to come, and return the latter; of an image that is whole nothing is told."""
        layers = {source.descriptor.digest: source.descriptor for source in sources}
        missing = {digest: layer for digest, layer in layers.items() if not self._store.blobs.has(digest)}
        for digest in () if is_known and not missing else layers:
            self._observer.layer(digest, Step.PULLING if digest in missing else Step.EXISTS)
        for layer in list(missing.values())[DOWNLOADS:]:
            self._observer.layer(layer.digest, Step.WAITING)
        return list(missing.values())

    def _fetch(self, layer: Descriptor) -> None:
        self._download(layer, self._observer)
        self._observer.layer(layer.digest, Step.DOWNLOADED)

    def _download(self, wanted: Descriptor, observer: Observer) -> None:
        *mirrors, last = self._repositories
        for mirror in mirrors:
            try:
                return download(self._store.blobs, mirror, wanted, observer)
            except Cancelled:
                raise
            except (RegistryError, DigestMismatch) as error:
                _log.info("the mirror %s failed: %s", mirror.registry.host, error)
        return download(self._store.blobs, last, wanted, observer)

    def _take(self, sources: Sequence[LayerSource], fetched: dict[str, Future[None]]) -> None:
        for source in sources:
            digest = source.descriptor.digest
            if digest in fetched:
                _await(fetched[digest], fetched)
            if self._unpack:
                if digest in fetched:
                    self._observer.layer(digest, Step.EXTRACTING)
                self._store.layers.directory(source)
            if digest in fetched:
                self._observer.layer(digest, Step.PULLED)


def _await(one: Future[None], others: dict[str, Future[None]]) -> None:
    """Wait for a layer, but no longer than all others go well."""
    while not one.done():
        wait([each for each in others.values() if not each.done()], return_when=FIRST_COMPLETED)
        for each in others.values():
            if each.done():
                each.result()
    one.result()


def _sources(manifest: Manifest, config: ImageConfig) -> tuple[LayerSource, ...]:
    diff_ids = config.rootfs.diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise RegistryError(f"the manifest names {len(manifest.layers)} layers, the configuration {len(diff_ids)}")
    return tuple(
        LayerSource(descriptor=layer, diff_id=diff_id, chain_id=chain_id)
        for layer, diff_id, chain_id in zip(manifest.layers, diff_ids, chain_ids(diff_ids), strict=True)
    )


class _Silent:
    """Watches nothing: configurations are small."""

    def told(self, text: str) -> None:
        """Take a line."""

    def layer(self, digest: str, step: Step, *, done_bytes: int = 0, of_bytes: int = 0, detail: str = "") -> None:
        """Take what happens to a layer."""


def all_tags(session: Session, reference: Reference) -> Iterator[Reference]:
    """Give the repository's name with each of its tags.

    Raises:
        RegistryError: there is no such repository.
    """
    for tag in session.repository(reference).tags():
        yield replace(reference, tag=tag, digest="")
