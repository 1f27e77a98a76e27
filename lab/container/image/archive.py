"""Images from an archive: what docker, podman, skopeo and the lab itself save, into the store.

Nothing is trusted: blobs are stored under the digest that they have, documents are read with limits, and layers are
checked against the configuration, at the latest when they are unpacked. What cannot be used leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import IO, BinaryIO

from lab.container.image import names
from lab.container.image.archive_file import ArchiveFile, open_archive, require_layout
from lab.container.image.export import CONTAINERD_NAME
from lab.container.image.packages import debian_architecture
from lab.container.image.reference import Reference, parse_reference
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.container.spec.image import REF_NAME, Descriptor, ImageConfig, Index, Manifest, MediaType, Platform
from lab.container.storage.blobs import READ_BYTES, BlobWriter
from lab.container.storage.compression import Compression, Readable, compression_of, decompressed
from lab.container.storage.pack import Layer, pack_stream
from lab.errors import ContainerError, DigestMismatch, ImageNotFound, LabError, LayerCorrupt

_INDEXES = ("image.index.v1+json", "manifest.list.v2+json")
_INDEX_DEPTH_MAX = 4
_HEAD_BYTES = 6
_DAMAGED_HINT = "the archive is damaged: save or download it again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An image that was loaded; ``name`` is "" where the archive gave it none.

    ``renamed_id`` is the id of the image that had the name before, "" if none had.
    """

    image: StoredImage
    name: str
    renamed_id: str = ""


def load(store: ImageStore, source: BinaryIO, subject: str) -> tuple[Loaded, ...]:
    """Store all images of an archive; ``subject`` names it in errors.

    Raises:
        LayerCorrupt: the archive, or something in it, is damaged; images before that are stored.
        DigestMismatch: a blob has other bytes than its name promises.
        ContainerError: it holds no images, or none for this machine.
        KernelError: it could not be read or stored.
    """
    try:
        with store.content_shared(), open_archive(source, subject, store.blobs.ingest) as archive:
            require_layout(archive)
            images = _oci_images if archive.has("index.json") else _docker_images
            return tuple(loaded for each in images(store, archive) for loaded in _named(store, each))
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


# -- OCI layouts -------------------------------------------------------------------------------------------------------


def _oci_images(store: ImageStore, archive: ArchiveFile) -> Iterator[_Found]:
    references: dict[str, tuple[Reference, ...]] = {}
    manifests: dict[str, Descriptor] = {}
    for entry in Index.from_json(archive.document("index.json")).manifests:
        manifest = _for_this_machine(archive, entry)
        manifests[manifest.digest] = manifest
        references[manifest.digest] = (*references.get(manifest.digest, ()), *_names_in(entry))
    for digest, manifest in manifests.items():
        _store_manifest(store, archive, manifest)
        yield _Found(manifest=replace(manifest, annotations={}, platform=None), references=references[digest])


def _names_in(entry: Descriptor) -> tuple[Reference, ...]:
    """Return the name that an entry gives; a bare word as its "ref.name" is a tag, of what is not said."""
    text = entry.annotations.get(CONTAINERD_NAME) or entry.annotations.get(REF_NAME, "")
    is_bare = CONTAINERD_NAME not in entry.annotations and not {"/", ":"} & set(text)
    reference = None if is_bare else names.parsed(text)
    return () if reference is None else (reference,)


def _for_this_machine(archive: ArchiveFile, entry: Descriptor, depth: int = 0) -> Descriptor:
    """Return a manifest: the entry itself, or of an index the one for this machine.

    Raises:
        ContainerError: there is none.
    """
    if not entry.media_type.endswith(_INDEXES):
        return entry
    if depth > _INDEX_DEPTH_MAX:
        raise LayerCorrupt("its indexes are nested too deeply")
    index = Index.from_json(archive.document(_blob(entry.digest)))
    wanted = Platform(architecture=debian_architecture(), os="linux")
    for inner in index.manifests:
        if inner.platform is not None and replace(inner.platform, variant="") == wanted:
            return _for_this_machine(archive, inner, depth + 1)
    there = ", ".join(str(inner.platform) for inner in index.manifests if inner.platform is not None)
    raise ContainerError(f"it holds no image for {wanted}, only for {there or 'nothing that it names'}")


def _store_manifest(store: ImageStore, archive: ArchiveFile, entry: Descriptor) -> None:
    data = archive.document(_blob(entry.digest))
    manifest = Manifest.from_json(data)
    config = ImageConfig.from_json(archive.document(_blob(manifest.config.digest)))
    _require_as_many(manifest.layers, config)
    for part in (*manifest.layers, manifest.config, entry):
        if not store.blobs.has(part.digest):
            _store_blob(store, archive, part.digest)


def _store_blob(store: ImageStore, archive: ArchiveFile, digest: str) -> None:
    with archive.opened(_blob(digest)) as content, store.blobs.writing() as writer:
        while data := content.read(READ_BYTES):
            writer.write(data)
        if writer.digest != digest:
            raise DigestMismatch(_blob(digest), expected=digest, actual=writer.digest, hint=_DAMAGED_HINT)


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


# -- docker's own form -------------------------------------------------------------------------------------------------


def _docker_images(store: ImageStore, archive: ArchiveFile) -> Iterator[_Found]:
    known = {
        source.diff_id: source.descriptor
        for image in store.readable()
        for source in store.layer_sources(image)
        if store.blobs.has(source.descriptor.digest)
    }
    for entry in _docker_entries(archive.document("manifest.json")):
        config_json = archive.document(entry.config)
        config = ImageConfig.from_json(config_json)
        _require_as_many(entry.layers, config)
        for path, diff_id in zip(entry.layers, config.rootfs.diff_ids, strict=True):
            if diff_id not in known:
                known[diff_id] = _store_layer(store, archive, path, diff_id)
        layers = tuple(known[diff_id] for diff_id in config.rootfs.diff_ids)
        yield _Found(manifest=store.add_documents(config_json, layers), references=entry.references)


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


def _store_layer(store: ImageStore, archive: ArchiveFile, path: str, diff_id: str) -> Descriptor:
    """Store a layer as it is, or compressed if it is not; its tar has to be the one that the configuration names."""
    with archive.opened(path) as content:
        compression = compression_of(content.read(_HEAD_BYTES))
        content.seek(0)
        if compression in (Compression.GZIP, Compression.ZSTD):
            layer = _stored_as_it_is(store, content, compression)
        else:
            layer = pack_stream(store.blobs, decompressed(content))
    if layer.diff_id != diff_id:
        raise DigestMismatch(f"layer {path}", expected=diff_id, actual=layer.diff_id, hint=_DAMAGED_HINT)
    return layer.descriptor


def _stored_as_it_is(store: ImageStore, content: IO[bytes], compression: Compression) -> Layer:
    tar_hash = hashlib.sha256()
    with store.blobs.writing() as writer:
        plain = decompressed(_Copied(content, writer))
        while data := plain.read(READ_BYTES):
            tar_hash.update(data)
    media_type = MediaType.LAYER_ZSTD if compression is Compression.ZSTD else MediaType.LAYER_GZIP
    descriptor = Descriptor(media_type=media_type, digest=writer.digest, size=writer.size_bytes)
    return Layer(descriptor=descriptor, diff_id=f"sha256:{tar_hash.hexdigest()}")


class _Copied:
    """A stream that is written elsewhere as it is read."""

    def __init__(self, source: Readable, target: BlobWriter) -> None:
        self._source = source
        self._target = target

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._target.write(data)
        return data


def _require_as_many(layers: Sequence[object], config: ImageConfig) -> None:
    expected = len(config.rootfs.diff_ids)
    if len(layers) != expected:
        raise ContainerError(f"an image in it has {len(layers)} layers, its configuration {expected}")
