"""Images by name: one OCI layout directory whose ``index.json`` maps names to manifests.

What is stored can be read by other tools as it lies there (``skopeo inspect oci:DIR:busybox``). An image whose name
has moved on stays, nameless, until it is removed: a run that started on it can end on it. Several commands may work
at once: those that add hold the content lock together, the one that removes holds it alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from lab.container.image.export import Exported, write_docker_archive, write_oci_layout
from lab.container.spec.image import (
    REF_NAME,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    MediaType,
    is_digest,
    layout_json,
)
from lab.container.storage import durable
from lab.container.storage.blobs import BlobStore
from lab.container.storage.layers import LayerSource, LayerStore, chain_ids
from lab.container.storage.pack import Layer
from lab.errors import ContainerError, DigestMismatch, ImageNotFound, StateConflict
from lab.paths import Paths

_PREFIX_LENGTH_MIN = 6  # shorter ones are more likely a mistyped name than a digest


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """An image of the store; ``name`` is "" when its name has moved on, ``layers`` are lowest first.

    ``size_bytes`` is that of its blobs, compressed as they are.
    """

    name: str
    manifest_digest: str
    config_digest: str
    layers: tuple[Descriptor, ...]
    config: ImageConfig
    size_bytes: int


class ImageStore:
    """The images of one lab root."""

    def __init__(self, root: str, layers_root: str = "") -> None:
        self.root = root
        self.blobs = BlobStore(root)
        self.layers = LayerStore(layers_root or os.path.join(root, "layers"), self.blobs)
        self._index_path = os.path.join(root, "index.json")

    @classmethod
    def open(cls, paths: Paths) -> ImageStore:
        """Return the store of a lab root; nothing is created before something is added."""
        return cls(paths.images, paths.layers)

    def images(self) -> tuple[StoredImage, ...]:
        """Return all images, sorted by name, nameless ones last."""
        found = [self._image(entry) for entry in self._index().manifests]
        return tuple(sorted(found, key=lambda image: (not image.name, image.name, image.manifest_digest)))

    def resolve(self, reference: str) -> StoredImage:
        """Return the image of this name, manifest digest, or unique beginning of a manifest digest.

        Raises:
            ImageNotFound: there is none, or more than one digest begins like this.
        """
        entries = self._index().manifests
        named = [entry for entry in entries if entry.annotations.get(REF_NAME) == reference]
        found = named or _by_digest(entries, reference)
        if len({entry.digest for entry in found}) > 1:
            raise ImageNotFound(f"more than one image begins with '{reference}'", hint="give more digits of the digest")
        if not found:
            raise self._not_found(reference, entries)
        return self._image(found[0])

    def layer_directories(self, manifest_digest: str) -> tuple[str, ...]:
        """Return the image's layers as directories, topmost first (overlay's order), unpacking what is not yet.

        Raises:
            ImageNotFound: there is no such image.
            DigestMismatch: a blob has other bytes than its name promises.
            LayerCorrupt: a layer cannot be unpacked.
        """
        sources = self.layer_sources(self.resolve(manifest_digest))
        with self.content_shared():
            return tuple(self.layers.directory(source) for source in reversed(sources))

    def layer_sources(self, image: StoredImage) -> tuple[LayerSource, ...]:
        """Return the image's layers as they are to be unpacked, lowest first.

        Raises:
            ContainerError: manifest and configuration have different numbers of layers.
        """
        diff_ids = image.config.rootfs.diff_ids
        if len(diff_ids) != len(image.layers):
            raise ContainerError(
                f"image {image.manifest_digest} has {len(image.layers)} layers, its configuration {len(diff_ids)}"
            )
        return tuple(
            LayerSource(descriptor=descriptor, diff_id=diff_id, chain_id=chain_id)
            for descriptor, diff_id, chain_id in zip(image.layers, diff_ids, chain_ids(diff_ids), strict=True)
        )

    def add(self, name: str, config: ImageConfig, layers: Iterable[Layer]) -> StoredImage:
        """Store an image made of layers that are in the store, under ``name``; call it within ``content_shared``."""
        config_json = config.to_json()
        manifest = Manifest(
            config=Descriptor(media_type=MediaType.CONFIG, digest=self.blobs.add(config_json), size=len(config_json)),
            layers=tuple(layer.descriptor for layer in layers),
        )
        manifest_json = manifest.to_json()
        descriptor = Descriptor(
            media_type=MediaType.MANIFEST, digest=self.blobs.add(manifest_json), size=len(manifest_json)
        )
        self._set_name(name, descriptor)
        return self.resolve(name)

    def remove(self, reference: str) -> tuple[str, ...]:
        """Remove a name, or an image by digest with all its names, and what no image needs any more.

        Returns the digests of the blobs and the chain ids of the unpacked layers that are gone.

        Raises:
            ImageNotFound: there is no such image.
            StateConflict: something runs on it, or another command is adding or unpacking just now.
        """
        image = self.resolve(reference)
        with self._content_alone():
            entries = self._index().manifests
            kept = tuple(entry for entry in entries if not _is_meant(entry, image, reference))
            self._refuse_layers_in_use(image, kept)
            self._write_index(Index(manifests=kept))
            return self._remove_unreferenced()

    def verify(self) -> Iterator[tuple[str, DigestMismatch | None]]:
        """Hash every blob anew; give each digest with None, or with what is wrong."""
        for digest in self.blobs.digests():
            try:
                self.blobs.verify(digest)
            except DigestMismatch as error:
                yield digest, error
            else:
                yield digest, None

    def export_docker_archive(self, manifest_digest: str, name: str, path: str) -> None:
        """Write the image as ``name`` to an archive for ``docker load``; docker's image id is the config digest.

        Raises:
            ImageNotFound: there is no such image.
            KernelError: the archive cannot be written; nothing is left at ``path``.
        """
        write_docker_archive(self.blobs, self._exported(manifest_digest, name), path)

    def export_oci_layout(self, manifest_digest: str, name: str, directory: str) -> None:
        """Write the image as ``name`` to an OCI layout directory for skopeo and podman.

        Raises:
            ImageNotFound: there is no such image.
            KernelError: the directory cannot be written.
        """
        write_oci_layout(self.blobs, self._exported(manifest_digest, name), directory)

    def _exported(self, manifest_digest: str, name: str) -> Exported:
        digest = self.resolve(manifest_digest).manifest_digest
        data = self.blobs.read(digest)
        manifest = Manifest.from_json(data)
        return Exported(
            name=name,
            manifest=Descriptor(media_type=manifest.media_type, digest=digest, size=len(data)),
            config=manifest.config,
            layers=manifest.layers,
        )

    @contextmanager
    def content_shared(self) -> Iterator[None]:
        """Keep what is added during the block, or used in it, from being removed as unreferenced."""
        os.makedirs(self.root, exist_ok=True)
        with durable.shared(self._lock("content")):
            yield

    @contextmanager
    def _content_alone(self) -> Iterator[None]:
        with durable.locked_if_free(self._lock("content")) as held:
            if not held:
                raise StateConflict(f"{self.root} is in use by another command", hint="try again when it has ended")
            yield

    def _lock(self, name: str) -> str:
        return os.path.join(self.root, f"{name}.lock")

    def _index(self) -> Index:
        try:
            with open(self._index_path, "rb") as file:
                return Index.from_json(file.read())
        except FileNotFoundError:
            return Index()

    def _write_index(self, index: Index) -> None:
        durable.write_atomically(os.path.join(self.root, "oci-layout"), layout_json())
        durable.write_atomically(self._index_path, index.to_json())

    def _set_name(self, name: str, manifest: Descriptor) -> None:
        with durable.locked(self._lock("index")):
            self._write_index(renamed(self._index(), name, manifest))

    def _image(self, entry: Descriptor) -> StoredImage:
        manifest = Manifest.from_json(self.blobs.read(entry.digest))
        return StoredImage(
            name=entry.annotations.get(REF_NAME, ""),
            manifest_digest=entry.digest,
            config_digest=manifest.config.digest,
            layers=manifest.layers,
            config=ImageConfig.from_json(self.blobs.read(manifest.config.digest)),
            size_bytes=entry.size + manifest.config.size + sum(layer.size for layer in manifest.layers),
        )

    def _not_found(self, reference: str, entries: Iterable[Descriptor]) -> ImageNotFound:
        names = sorted(entry.annotations[REF_NAME] for entry in entries if REF_NAME in entry.annotations)
        there = f"there are: {', '.join(names)}; or " if names else ""
        return ImageNotFound(f"no image '{reference}' in {self.root}", hint=f"{there}lab image bootstrap all")

    def _refuse_layers_in_use(self, image: StoredImage, kept: tuple[Descriptor, ...]) -> None:
        needed = self._chain_ids_of(kept)
        for source in self.layer_sources(image):
            if source.chain_id not in needed and (pid := _user_of(self.layers.path(source.chain_id))):
                raise StateConflict(
                    f"image {image.name or image.manifest_digest} is in use by process {pid}",
                    hint="stop what runs on it first",
                )

    def _chain_ids_of(self, entries: Iterable[Descriptor]) -> frozenset[str]:
        images = [self._image(entry) for entry in entries]
        return frozenset(chain for image in images for chain in chain_ids(image.config.rootfs.diff_ids))

    def _remove_unreferenced(self) -> tuple[str, ...]:
        entries = self._index().manifests
        images = [self._image(entry) for entry in entries]
        needed = {image.manifest_digest for image in images} | {image.config_digest for image in images}
        needed |= {layer.digest for image in images for layer in image.layers}
        blobs = [digest for digest in self.blobs.digests() if digest not in needed]
        chains = [chain for chain in self.layers.chain_ids() if chain not in self._chain_ids_of(entries)]
        for digest in blobs:
            self.blobs.remove(digest)
        for chain in chains:
            self.layers.remove(chain)
        self.blobs.remove_unfinished()
        return (*blobs, *chains)


def renamed(index: Index, name: str, manifest: Descriptor) -> Index:
    """Return ``index`` with ``name`` given to ``manifest``; the image that had the name keeps its place without it."""
    nameless = [
        replace(entry, annotations={}) if entry.annotations.get(REF_NAME) == name else entry
        for entry in index.manifests
        if not (entry.digest == manifest.digest and entry.annotations.get(REF_NAME) in (None, name))
    ]
    return Index(manifests=(*nameless, replace(manifest, annotations={REF_NAME: name})))


def _by_digest(entries: Iterable[Descriptor], reference: str) -> list[Descriptor]:
    if is_digest(reference):
        return [entry for entry in entries if entry.digest == reference]
    prefix = reference.removeprefix("sha256:")
    if len(prefix) < _PREFIX_LENGTH_MIN:
        return []
    return [entry for entry in entries if entry.digest.startswith(f"sha256:{prefix}")]


def _is_meant(entry: Descriptor, image: StoredImage, reference: str) -> bool:
    if reference == image.name:
        return entry.annotations.get(REF_NAME) == reference
    return entry.digest == image.manifest_digest


def _user_of(directory: str) -> str:
    """Return the pid of a process that sees a mount with ``directory`` as a layer, "" if none does.

    Containers have mount namespaces of their own, so each process is asked; overlay shows its layers as options.
    """
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as lines:
                if any(directory in line for line in lines):
                    return pid
        except OSError:
            continue  # it has ended meanwhile
    return ""
