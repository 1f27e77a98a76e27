"""Images from a registry into the store: layers side by side, each unpacked as soon as those below it are."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lab.container.image import indexes, platforms
from lab.container.image.reference import Reference
from lab.container.image.store import ImageStore, StoredImage
from lab.container.registry.client import Document, Repository
from lab.container.registry.download import download
from lab.container.registry.progress import Observer, Step
from lab.container.registry.session import Session
from lab.container.registry.transport import Cancelled
from lab.container.spec.image import Descriptor, ImageConfig, Index, Manifest, Platform
from lab.container.storage.layers import LayerSource, chain_ids
from lab.errors import ContainerError, DigestMismatch, RegistryError

DOWNLOADS = 3
"""How many layers are fetched at once, as docker does."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """An image that was pulled; ``digest`` is that of its manifest or index at the registry."""

    image: StoredImage
    digest: str
    is_new: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pull:
    """What is to be pulled, for which platform if there is a choice, or ``every`` one of them.

    ``unpack`` the layers for the platform as a container needs them: that takes root.
    """

    reference: Reference
    platform: Platform
    unpack: bool
    every: bool = False


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
        chosen = _for_platform(repositories[0], document, wanted)
        before = _ids_of(store, reference.familiar)
        puller = _Puller(session, store, repositories, observer)
        puller.pull(chosen.manifest, wanted, unpack=wanted.unpack)
        for other in chosen.others:
            puller.pull_other(other)
        for index in chosen.indexes:
            store.blobs.add(index.data)
        whole = _descriptor(document)
        store.add_manifest(replace(reference, tag="", digest=document.digest).familiar, whole)
        if not reference.digest:
            store.add_manifest(reference.familiar, whole)
        image = replace(store.resolve(chosen.manifest.digest), name=reference.familiar)
    return Pulled(image=image, digest=document.digest, is_new=image.config_digest not in before)


def _ids_of(store: ImageStore, name: str) -> tuple[str, ...]:
    """Return the ids of the images that have a name."""
    try:
        return tuple(image.config_digest for image in store.images_of(name))
    except ContainerError:
        return ()  # there is none, or it is damaged: what comes is new


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """What of an index is fetched: the manifest for the platform, all others if they are wanted, and the indexes."""

    manifest: Document
    others: tuple[Document, ...] = ()
    indexes: tuple[Document, ...] = ()


def _for_platform(repository: Repository, document: Document, wanted: Pull, depth: int = 0) -> _Chosen:
    """Return the manifest itself, or of an index the one for the platform."""
    subject = wanted.reference.familiar
    if document.media_type not in indexes.INDEXES:
        return _Chosen(manifest=document)
    if depth > indexes.DEPTH_MAX:
        raise RegistryError(f"the indexes of {subject} are nested too deeply")
    index = Index.from_json(document.data)
    entry = platforms.select(index, wanted.platform, subject=subject)
    found = _for_platform(repository, repository.manifest(entry.digest), wanted, depth + 1)
    if not wanted.every:
        return replace(found, indexes=(*found.indexes, document))
    named = [repository.manifest(each.digest) for each in index.manifests if each.digest != entry.digest]
    if any(each.media_type in indexes.INDEXES for each in named):
        raise RegistryError(f"{subject} has indexes in its index", hint="name one with --platform")
    return _Chosen(manifest=found.manifest, others=(*found.others, *named), indexes=(*found.indexes, document))


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
    ) -> None:
        self._session, self._store, self._repositories, self._observer = session, store, repositories, observer

    def pull(self, document: Document, wanted: Pull, *, unpack: bool) -> None:
        """Have all blobs of an image in the store, the manifest last."""
        manifest = Manifest.from_json(document.data)
        config = self._config(manifest.config, wanted)
        sources = _sources(manifest, config)
        missing = self._announce(manifest.layers, is_known=self._store.blobs.has(document.digest))
        with self._fetching(missing) as fetched:
            self._take(sources, fetched, unpack=unpack)
        self._store.blobs.add(document.data)

    def pull_other(self, document: Document) -> None:
        """Have all blobs of a manifest in the store that is an image for another platform, or none at all."""
        manifest = Manifest.from_json(document.data)
        self._download(manifest.config, _Silent())
        missing = self._announce(manifest.layers, is_known=self._store.blobs.has(document.digest))
        with self._fetching(missing) as fetched:
            for digest, one in fetched.items():
                _await(one, fetched)
                self._observer.layer(digest, Step.PULLED)
        self._store.blobs.add(document.data)

    @contextmanager
    def _fetching(self, missing: Sequence[Descriptor]) -> Iterator[dict[str, Future[None]]]:
        """Give the layers that are being fetched; if the block fails, no more are."""
        with ThreadPoolExecutor(DOWNLOADS, "pull") as threads:
            try:
                yield {layer.digest: threads.submit(self._fetch, layer) for layer in missing}
            except BaseException:
                self._session.exchange.transport.cancel()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _config(self, descriptor: Descriptor, wanted: Pull) -> ImageConfig:
        self._download(descriptor, _Silent())
        try:
            config = ImageConfig.from_json(self._store.blobs.read(descriptor.digest))
        except ContainerError as error:
            told = f"{wanted.reference.familiar} is no image of a container, but {descriptor.media_type}: {error}"
            raise RegistryError(told) from error
        return config

    def _announce(self, wanted: Sequence[Descriptor], *, is_known: bool) -> list[Descriptor]:
        """Tell what is there and what is to come, and return the latter; of an image that is whole nothing is told."""
        layers = {layer.digest: layer for layer in wanted}
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

    def _take(self, sources: Sequence[LayerSource], fetched: dict[str, Future[None]], *, unpack: bool) -> None:
        for source in sources:
            digest = source.descriptor.digest
            if digest in fetched:
                _await(fetched[digest], fetched)
            if unpack:
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
