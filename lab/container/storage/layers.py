"""Unpacked layers, one directory per chain id, each unpacked once and shared by all images that stand on it.

A chain id names a layer together with everything below it. Source:
https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, cast

from lab.container.spec.image import Descriptor
from lab.container.storage import durable
from lab.container.storage.blobs import READ_BYTES, BlobReader, BlobStore
from lab.container.storage.unpack import Readable, UnpackLimits, unpack
from lab.errors import ContainerError, DigestMismatch, LayerCorrupt

_UNFINISHED = ".unfinished"


def chain_ids(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Return the chain id of each layer, lowest first."""
    found: list[str] = []
    for diff_id in diff_ids:
        found.append(_digest(f"{found[-1]} {diff_id}".encode()) if found else diff_id)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerSource:
    """A layer to be unpacked: its blob, the digest of its tar, and its place on the layers below."""

    descriptor: Descriptor
    diff_id: str
    chain_id: str


class LayerStore:
    """The unpacked layers of one lab root."""

    def __init__(self, root: str, blobs: BlobStore, *, limits: UnpackLimits | None = None) -> None:
        self._root = root
        self._blobs = blobs
        self._limits = limits or UnpackLimits()

    def path(self, chain_id: str) -> str:
        """Return where the layer is, or would be, unpacked."""
        return os.path.join(self._root, chain_id.removeprefix("sha256:"))

    def chain_ids(self) -> tuple[str, ...]:
        """Return the chain ids of all unpacked layers, sorted."""
        if not os.path.isdir(self._root):
            return ()
        return tuple(sorted(f"sha256:{name}" for name in os.listdir(self._root) if "." not in name))

    def directory(self, source: LayerSource) -> str:
        """Return the layer's directory, unpacking it if need be; of several who ask at once, one does the work.

        Raises:
            DigestMismatch: the blob or its tar has another digest.
            LayerCorrupt: the tar is damaged, too large, or tries to leave its root.
        """
        path = self.path(source.chain_id)
        if os.path.isdir(path):
            return path
        os.makedirs(self._root, mode=0o711, exist_ok=True)
        with durable.locked(f"{path}.lock"):
            if not os.path.isdir(path):
                self._unpack_to(path, source)
        return path

    def remove(self, chain_id: str) -> None:
        """Remove the unpacked layer and what a killed unpacking of it left, if there is any."""
        path = self.path(chain_id)
        if not os.path.isdir(self._root):
            return
        with durable.locked(f"{path}.lock"):
            for victim in (path, path + _UNFINISHED):
                if os.path.isdir(victim):
                    _remove_tree(victim)
            os.unlink(f"{path}.lock")

    def _unpack_to(self, path: str, source: LayerSource) -> None:
        unfinished = path + _UNFINISHED
        if os.path.isdir(unfinished):  # we hold the lock, so whoever made it is dead
            _remove_tree(unfinished)
        os.mkdir(unfinished, mode=0o755)
        try:
            self._unpack_checked(unfinished, source)
            os.rename(unfinished, path)
        except BaseException:
            _remove_tree(unfinished)
            raise
        durable.sync_directory(self._root)

    def _unpack_checked(self, directory: str, source: LayerSource) -> None:
        descriptor = source.descriptor
        with self._blobs.reading(descriptor.digest) as blob:
            tar = _HashedStream(_uncompressed(blob, descriptor.media_type))
            try:
                unpack(tar, directory, self._limits, subject=f"layer {descriptor.digest}")
                tar.drain()
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                blob.finish()  # damage on disk is told as that, not as a bad archive
                raise LayerCorrupt(f"layer {descriptor.digest} cannot be decompressed: {error}") from error
        if tar.digest != source.diff_id:
            raise DigestMismatch(
                f"tar of layer {descriptor.digest}",
                expected=source.diff_id,
                actual=tar.digest,
                hint="the image's configuration and its layers do not belong together: pull or make it anew",
            )


class _HashedStream:
    """The uncompressed tar, hashed as it is read."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._hash = hashlib.sha256()

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._hash.update(data)
        return data

    def drain(self) -> None:
        while self.read(READ_BYTES):
            pass

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _uncompressed(blob: BlobReader, media_type: str) -> Readable:
    if media_type.endswith(("+gzip", ".gzip")):
        # cast: GzipFile reads through read() only
        return cast(Readable, gzip.GzipFile(fileobj=cast(IO[bytes], blob), mode="rb"))
    if media_type.endswith((".tar", "layer.v1.tar")):
        return blob
    raise ContainerError(f"layers of type {media_type} are not understood", hint="gzip and plain tar are")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _remove_tree(path: str) -> None:
    shutil.rmtree(path)
