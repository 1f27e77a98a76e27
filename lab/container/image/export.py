"""Images of the store as one archive that docker, podman, skopeo and the lab itself read.

It is an OCI layout (``index.json``, ``blobs/``) and docker's own form (``manifest.json``) at once, over the same blobs.
The same images give the same bytes. Sources: https://github.com/moby/docker-image-spec, "Combined Image JSON +
Filesystem Changeset Format"; https://github.com/opencontainers/image-spec/blob/main/image-layout.md.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Protocol, cast

from lab.container.image import indexes
from lab.container.image.reference import Reference
from lab.container.image.stored import StoredImage
from lab.container.spec.image import REF_NAME, Descriptor, Index, Manifest, layout_json
from lab.container.storage import durable
from lab.container.storage.blobs import READ_BYTES, BlobStore
from lab.container.storage.compression import decompressed
from lab.errors import KernelError, SpecError

CONTAINERD_NAME = "io.containerd.image.name"  # what docker calls an image that it finds in an OCI layout
_BLOBS = "blobs/sha256/"


class Target(Protocol):
    """Where an archive goes: a file, a pipe."""

    def write(self, data: bytes, /) -> int:
        """Take all of ``data``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """An image and the names that it gets; the whole index goes with it if it was found through one."""

    image: StoredImage
    names: tuple[Reference, ...]


def write_archive(blobs: BlobStore, images: Sequence[Exported], target: Target) -> None:
    """Write images, blobs that they share once, to ``target``; nothing is seeked.

    Raises:
        ContainerError: a blob is missing.
        DigestMismatch: a blob is damaged.
        OSError: the target does not take it.
    """
    # cast: tarfile's stream mode needs write() only
    with tarfile.open(fileobj=cast(IO[bytes], target), mode="w|", format=tarfile.PAX_FORMAT) as tar:
        writer = _ArchiveWriter(tar, blobs)
        entries = [writer.add_image(each) for each in images]
        index = Index(manifests=tuple(entry for each in images for entry in _index_entries(blobs, each)))
        writer.add_document("index.json", index.to_json())
        writer.add_document("manifest.json", _compact(entries))
        writer.add_document("oci-layout", layout_json())


class _ArchiveWriter:
    """An archive being written; each blob goes in once."""

    def __init__(self, tar: tarfile.TarFile, blobs: BlobStore) -> None:
        self._tar = tar
        self._blobs = blobs
        self._added: set[str] = set()

    def add_image(self, exported: Exported) -> dict[str, object]:
        """Add an image's blobs and return its entry in docker's ``manifest.json``."""
        image = exported.image
        for part in indexes.content(self._blobs, whole_descriptor(self._blobs, image)):
            self._add_blob(part)
        layers = [self._for_docker(part, id_) for part, id_ in zip(image.layers, _diff_ids(image), strict=True)]
        tags = [name.familiar for name in exported.names if not name.digest]
        return {"Config": _BLOBS + _hex(image.config_digest), "RepoTags": tags or None, "Layers": layers}

    def _for_docker(self, layer: Descriptor, diff_id: str) -> str:
        """Return the path of a layer that docker understands: before version 23 it knew no zstd."""
        if not layer.media_type.endswith("zstd"):
            return _BLOBS + _hex(layer.digest)
        if diff_id not in self._added:
            self._added.add(diff_id)
            self._add_decompressed(layer, _BLOBS + _hex(diff_id))
        return _BLOBS + _hex(diff_id)

    def _add_decompressed(self, layer: Descriptor, name: str) -> None:
        header = tarfile.TarInfo(name)
        with self._blobs.reading(layer.digest) as reader:
            plain = decompressed(reader)
            while data := plain.read(READ_BYTES):
                header.size += len(data)
        with self._blobs.reading(layer.digest) as reader:
            self._tar.addfile(header, cast(IO[bytes], _Whole(decompressed(reader).read)))  # cast: it needs read() only

    def _add_blob(self, part: Descriptor) -> None:
        if part.digest in self._added:
            return
        self._added.add(part.digest)
        header = tarfile.TarInfo(_BLOBS + _hex(part.digest))
        header.size = part.size
        with self._blobs.reading(part.digest) as reader:
            self._tar.addfile(header, cast(IO[bytes], reader))  # cast: it needs read() only

    def add_document(self, name: str, data: bytes) -> None:
        """Add a file of a few bytes."""
        header = tarfile.TarInfo(name)
        header.size = len(data)
        self._tar.addfile(header, io.BytesIO(data))


class _Whole:
    """A stream whose ``read`` gives as much as was asked for, as tarfile expects of files."""

    def __init__(self, read: _Read) -> None:
        self._read = read

    def read(self, size: int) -> bytes:
        pieces = []
        while size > 0 and (data := self._read(size)):
            pieces.append(data)
            size -= len(data)
        return b"".join(pieces)


class _Read(Protocol):
    def __call__(self, size: int, /) -> bytes: ...


def _diff_ids(image: StoredImage) -> Sequence[str]:
    return image.config.rootfs.diff_ids


def _index_entries(blobs: BlobStore, exported: Exported) -> Iterator[Descriptor]:
    whole = whole_descriptor(blobs, exported.image)
    if not exported.names:
        yield whole
    for name in exported.names:
        yield replace(whole, annotations={CONTAINERD_NAME: str(name), REF_NAME: name.familiar})


def manifest_descriptor(blobs: BlobStore, image: StoredImage) -> Descriptor:
    """Return the reference to an image's manifest."""
    data = blobs.read(image.manifest_digest)
    return Descriptor(media_type=Manifest.from_json(data).media_type, digest=image.manifest_digest, size=len(data))


def whole_descriptor(blobs: BlobStore, image: StoredImage) -> Descriptor:
    """Return the reference to the index through which an image was found, or to its manifest."""
    if not image.index_digest:
        return manifest_descriptor(blobs, image)
    data = blobs.read(image.index_digest)
    return Descriptor(media_type=Index.from_json(data).media_type, digest=image.index_digest, size=len(data))


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def write_oci_layout(blobs: BlobStore, image: StoredImage, name: str, directory: str) -> None:
    """Write an OCI layout with this one image, named ``name``; blobs that are there already stay.

    Raises:
        KernelError: it could not be written.
        DigestMismatch: a blob is damaged.
    """
    target = BlobStore(directory)
    manifest = Manifest.from_json(blobs.read(image.manifest_digest))
    try:
        os.makedirs(directory, exist_ok=True)
        for part in (*manifest.layers, manifest.config, manifest_descriptor(blobs, image)):
            _copy_blob(blobs, target, part.digest)
        named = replace(manifest_descriptor(blobs, image), annotations={REF_NAME: name})
        durable.write_atomically(os.path.join(directory, "oci-layout"), layout_json())
        durable.write_atomically(os.path.join(directory, "index.json"), Index(manifests=(named,)).to_json())
    except OSError as error:
        raise KernelError("write", directory, os.strerror(error.errno or 0)) from error


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Give a name beside ``path`` to write to; what is there after the block becomes ``path``, else nothing is left.

    Raises:
        SpecError: ``path`` is there, and no file.
        KernelError: it could not be written.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # a device would become a file
        kind = "directory" if os.path.isdir(path) else "device or pipe"
        raise SpecError(f"cannot write to {path}: it is a {kind}", hint="name a file, or use standard output: > FILE")
    temporary = f"{path}.{os.getpid()}.new"
    try:
        yield temporary
        os.rename(temporary, path)
    except OSError as error:
        raise KernelError("write", path, os.strerror(error.errno or 0)) from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _copy_blob(source: BlobStore, target: BlobStore, digest: str) -> None:
    if target.has(digest):
        return
    with source.reading(digest) as reader, target.writing() as writer:
        while data := reader.read(READ_BYTES):
            writer.write(data)
        reader.finish()  # before the writer's block ends, which would make it a blob


def _hex(digest: str) -> str:
    return digest.removeprefix("sha256:")
