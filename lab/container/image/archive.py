"""Images from an archive: what docker, podman, skopeo and the lab itself save, into the store.

Nothing is trusted: blobs are stored under the digest that they have, documents are read with limits, and layers are
checked against the configuration, at the latest when they are unpacked. What cannot be used leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Protocol

from lab.container.image import indexes, names
from lab.container.image.archive_file import ArchiveFile, open_archive, require_layout
from lab.container.image.export import CONTAINERD_NAME
from lab.container.image.packages import debian_architecture
from lab.container.image.platforms import is_image
from lab.container.image.reference import Reference, parse_reference
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import REF_NAME, Descriptor, ImageConfig, Index, Manifest, MediaType
from lab.container.storage.blobs import READ_BYTES, BlobWriter
from lab.container.storage.compression import Compression, Readable, compressing, compression_of, decompressed
from lab.container.storage.layers import chain_ids
from lab.errors import ContainerError, DigestMismatch, ImageNotFound, LabError, LayerCorrupt

_HEAD_BYTES = 6
_KEPT = {Compression.GZIP: MediaType.LAYER_GZIP, Compression.ZSTD: MediaType.LAYER_ZSTD}
_DAMAGED = "the archive is damaged: save or download it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An image that was loaded; ``name`` is "" where the archive gave it none.

    ``renamed_id`` is the id of the image that had the name before, "" if none had.
    """

    image: StoredImage
    name: str
    renamed_id: str = ""


def load(store: ImageStore, source: BinaryIO, subject: str, *, unpack: bool = False) -> tuple[Loaded, ...]:
    """Store all images of an archive; ``subject`` names it in errors.

    With ``unpack`` their layers are unpacked on the way, as a container needs them; that takes root.

    Raises:
        LayerCorrupt: the archive, or something in it, is damaged; images before that are stored.
        DigestMismatch: a blob has other bytes than its name promises.
        ContainerError: it holds no images, or none for this machine.
        KernelError: it could not be read or stored.
    """
    try:
        with store.content_shared(), open_archive(source, subject, store.blobs.ingest) as archive:
            require_layout(archive)
            found = _oci_images if archive.has("index.json") else _docker_images
            taker = _Taker(store, archive, unpack=unpack)
            return tuple(loaded for each in found(taker) for loaded in _named(store, each))
    except LabError:
        store.collect()  # what was stored for an image that did not come to be
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """An image whose blobs are in the store now, and the names that the archive gives it."""

    manifest: Descriptor
    references: tuple[Reference, ...]


def _named(store: ImageStore, found: _Found) -> Iterator[Loaded]:
    if not found.references:
        yield Loaded(image=store.add_manifest("", found.manifest), name="")
    for reference in found.references:
        before = _id_of(store, reference)
        image = store.add_manifest(reference.familiar, found.manifest)
        yield Loaded(
            image=image,
            name=reference.familiar,
            renamed_id=before if before != image.config_digest else "",
        )


def _id_of(store: ImageStore, reference: Reference) -> str:
    try:
        return store.resolve(reference.familiar).config_digest
    except ImageNotFound:
        return ""


class _Taker:
    """Takes content out of an archive into the store."""

    def __init__(self, store: ImageStore, archive: ArchiveFile, *, unpack: bool) -> None:
        self.store = store
        self.archive = archive
        self._unpack = unpack

    def blob(self, digest: str) -> None:
        """Take a blob as it is."""
        if self.store.blobs.has(digest):
            return
        with self.archive.opened(_blob(digest)) as content, self.store.blobs.writing() as writer:
            while data := content.read(READ_BYTES):
                writer.write(data)
            _require_digest(writer, digest)

    def layer_blob(self, descriptor: Descriptor, layer: _Layer, *, unpack: bool) -> None:
        """Take a layer as it is, and read it on the way."""
        if self.store.blobs.has(descriptor.digest):
            return
        with self.archive.opened(_blob(descriptor.digest)) as content, self.store.blobs.writing() as writer:
            self._consume(decompressed(_Copied(content, writer)), layer, unpack=unpack)
            _require_digest(writer, descriptor.digest)

    def layer(self, path: str, layer: _Layer) -> Descriptor:
        """Take a layer as it is, or compressed if it is not, and read it on the way."""
        with self.archive.opened(path) as content:
            compression = compression_of(content.read(_HEAD_BYTES))
            content.seek(0)
            with self.store.blobs.writing() as writer:
                if compression in _KEPT:
                    self._consume(decompressed(_Copied(content, writer)), layer)
                else:
                    compression = Compression.GZIP
                    with compressing(writer, compression) as compressed:
                        self._consume(_Copied(decompressed(content), compressed), layer)
        return Descriptor(media_type=_KEPT[compression], digest=writer.digest, size=writer.size_bytes)

    def _consume(self, tar: Readable, layer: _Layer, *, unpack: bool = True) -> None:
        """Read a tar to its end; it has to be the one that the configuration names."""
        directory = self.store.layers.path(layer.chain_id)
        if self._unpack and unpack and not os.path.isdir(directory):
            self.store.layers.fill(layer.chain_id, layer.diff_id, tar, subject=f"layer {layer.diff_id}")
            return
        tar_hash = hashlib.sha256()
        while data := tar.read(READ_BYTES):
            tar_hash.update(data)
        actual = f"sha256:{tar_hash.hexdigest()}"
        if actual != layer.diff_id:
            raise DigestMismatch(f"tar of layer {layer.diff_id}", expected=layer.diff_id, actual=actual, hint=_DAMAGED)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A layer by its place in an image."""

    diff_id: str
    chain_id: str


def _layers_of(config: ImageConfig, given: Sequence[object]) -> tuple[_Layer, ...]:
    diff_ids = config.rootfs.diff_ids
    if len(given) != len(diff_ids):
        raise ContainerError(f"an image in it has {len(given)} layers, its configuration {len(diff_ids)}")
    return tuple(
        _Layer(diff_id=diff_id, chain_id=chain_id)
        for diff_id, chain_id in zip(diff_ids, chain_ids(diff_ids), strict=True)
    )


class _Sink(Protocol):
    def write(self, data: bytes, /) -> int: ...


class _Copied:
    """A stream that is written elsewhere as it is read."""

    def __init__(self, source: Readable, target: _Sink) -> None:
        self._source = source
        self._target = target

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._target.write(data)
        return data


def _require_digest(writer: BlobWriter, digest: str) -> None:
    if writer.digest != digest:
        raise DigestMismatch(_blob(digest), expected=digest, actual=writer.digest, hint=_DAMAGED)


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


# -- OCI layouts -------------------------------------------------------------------------------------------------------


def _oci_images(taker: _Taker) -> Iterator[_Found]:
    references: dict[str, tuple[Reference, ...]] = {}
    entries: dict[str, Descriptor] = {}
    for entry in Index.from_json(taker.archive.document("index.json")).manifests:
        entries[entry.digest] = entry
        references[entry.digest] = (*references.get(entry.digest, ()), *_names_in(entry))
    for digest, entry in entries.items():
        if indexes.is_index(entry):
            _take_index(taker, entry)
        else:
            _take_manifest(taker, entry)
        yield _Found(manifest=replace(entry, annotations={}, platform=None), references=references[digest])


def _names_in(entry: Descriptor) -> tuple[Reference, ...]:
    """Return the name that an entry gives; a bare word as its "ref.name" is a tag, of what is not said."""
    text = entry.annotations.get(CONTAINERD_NAME) or entry.annotations.get(REF_NAME, "")
    is_bare = CONTAINERD_NAME not in entry.annotations and not {"/", ":"} & set(text)
    reference = None if is_bare else names.parsed(text)
    return () if reference is None else (reference,)


def _take_index(taker: _Taker, entry: Descriptor) -> None:
    """Take an index and all of its manifests that are in the archive.

    Raises:
        ContainerError: none of its images is.
    """
    named = list(_named_by(taker.archive, entry))
    images = [each for each in named if is_image(each) and not indexes.is_index(each)]
    if not any(taker.archive.has(_blob(each.digest)) for each in images):
        platforms = ", ".join(str(each.platform) for each in images if each.platform is not None)
        raise ContainerError(
            f"it holds none of the images that its index names, which are for {platforms or 'nothing'}"
        )
    for each in named:
        if not taker.archive.has(_blob(each.digest)):
            continue
        if indexes.is_index(each):
            taker.blob(each.digest)
        elif is_image(each):
            _take_manifest(taker, each)
        else:
            _take_parts(taker, each)
    taker.blob(entry.digest)


def _named_by(archive: ArchiveFile, entry: Descriptor, depth: int = 0) -> Iterator[Descriptor]:
    """Give what an index names, and what indexes in it name as far as they are there, the inner ones first."""
    if depth > indexes.DEPTH_MAX:
        raise LayerCorrupt("its indexes are nested too deeply")
    for inner in Index.from_json(archive.document(_blob(entry.digest))).manifests:
        if indexes.is_index(inner) and archive.has(_blob(inner.digest)):
            yield from _named_by(archive, inner, depth + 1)
        yield inner


def _take_manifest(taker: _Taker, entry: Descriptor) -> None:
    manifest = Manifest.from_json(taker.archive.document(_blob(entry.digest)))
    config = ImageConfig.from_json(taker.archive.document(_blob(manifest.config.digest)))
    is_ours = config.architecture == debian_architecture()
    for descriptor, layer in zip(manifest.layers, _layers_of(config, manifest.layers), strict=True):
        taker.layer_blob(descriptor, layer, unpack=is_ours)
    taker.blob(manifest.config.digest)
    taker.blob(entry.digest)


def _take_parts(taker: _Taker, entry: Descriptor) -> None:
    """Take what is no image, such as the provenance of one."""
    manifest = Manifest.from_json(taker.archive.document(_blob(entry.digest)))
    for part in (*manifest.layers, manifest.config, entry):
        taker.blob(part.digest)


# -- docker's own form -------------------------------------------------------------------------------------------------


def _docker_images(taker: _Taker) -> Iterator[_Found]:
    store = taker.store
    known = {
        source.diff_id: source.descriptor
        for image in store.readable()
        for source in store.layer_sources(image)
        if store.blobs.has(source.descriptor.digest)
    }
    for entry in _docker_entries(taker.archive.document("manifest.json")):
        config_json = taker.archive.document(entry.config)
        layers = _layers_of(ImageConfig.from_json(config_json), entry.layers)
        for path, layer in zip(entry.layers, layers, strict=True):
            if layer.diff_id not in known:
                known[layer.diff_id] = taker.layer(path, layer)
        manifest = store.add_documents(config_json, [known[layer.diff_id] for layer in layers])
        yield _Found(manifest=manifest, references=entry.references)


@dataclass(frozen=True, slots=True, kw_only=True)
class _DockerEntry:
    config: str
    references: tuple[Reference, ...]
    layers: tuple[str, ...]


def _docker_entries(data: bytes) -> Iterator[_DockerEntry]:
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LayerCorrupt(f"manifest.json is not JSON: {error}") from error
    for entry in document if isinstance(document, list) else [None]:
        if not isinstance(entry, dict) or not isinstance(entry.get("Config"), str):
            raise LayerCorrupt("manifest.json is not a list of images")
        tags, layers = _texts(entry, "RepoTags"), _texts(entry, "Layers")
        yield _DockerEntry(
            config=entry["Config"], references=tuple(parse_reference(tag) for tag in tags), layers=layers
        )


def _texts(entry: dict[str, object], key: str) -> tuple[str, ...]:
    values = entry.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise LayerCorrupt(f"{key} in manifest.json is not a list of texts")
    return tuple(values)
