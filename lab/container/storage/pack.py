"""Files to layer: a tar stream, compressed and hashed as it is written.

The same files give the same bytes: entries are sorted, no user or group names are stored, times are whole seconds
and can be clamped, the gzip header has no time. Overlay's own marks become the whiteouts of the image specification.
Source: https://github.com/opencontainers/image-spec/blob/main/layer.md.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, cast

from lab.container.spec.image import Descriptor, MediaType
from lab.container.storage.blobs import READ_BYTES, BlobStore, BlobWriter

GZIP_LEVEL = 1  # a layer is packed more often than it travels: level 6 takes 3 times as long for 15 % less
WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OVERLAY_XATTR = "trusted.overlay."
OPAQUE_XATTR = "trusted.overlay.opaque"
XATTR_PAX = "SCHILY.xattr."


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer in the store: its blob, and the digest of its tar before compression."""

    descriptor: Descriptor
    diff_id: str


class _DiffStream:
    """What tarfile writes to: hashes the tar and hands it to the compressor."""

    def __init__(self, target: gzip.GzipFile) -> None:
        self._target = target
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._target.write(data)

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@dataclass(slots=True)
class LayerWriter:
    """A layer being written; ``layer`` is set once the ``writing_layer`` block has ended."""

    _tar: tarfile.TarFile
    _stream: _DiffStream
    _links: dict[tuple[int, int], str] = field(default_factory=dict)
    result: Layer | None = None

    def add(self, entry: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        """Append one entry, with ``entry.size`` bytes of ``content`` if it is a file."""
        self._tar.addfile(entry, content)

    def add_path(self, path: str, name: str, *, mtime_limit_s: int | None = None) -> None:
        """Append the file, link, directory or device at ``path`` as ``name``; overlay's whiteouts become OCI's."""
        status = os.lstat(path)
        if stat.S_ISSOCK(status.st_mode):  # a socket means nothing without its process
            return
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            self.add(_marker(os.path.join(os.path.dirname(name), WHITEOUT + os.path.basename(name))))
            return
        entry = _entry(path, name, status, mtime_limit_s=mtime_limit_s)
        if entry.isreg():
            self._add_file(path, entry, status)
            return
        self.add(entry)
        if entry.isdir() and _xattr(path, OPAQUE_XATTR) == b"y":
            self.add(_marker(os.path.join(name, OPAQUE)))

    def _add_file(self, path: str, entry: tarfile.TarInfo, status: os.stat_result) -> None:
        key = (status.st_dev, status.st_ino)
        if status.st_nlink > 1 and key in self._links:
            entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, self._links[key], 0
            self.add(entry)
            return
        self._links[key] = entry.name
        with open(path, "rb") as content:
            self.add(entry, content)

    def finished(self) -> Layer:
        """Return the layer; valid after the block."""
        assert self.result is not None, "the layer is still being written"
        return self.result


@contextmanager
def writing_layer(blobs: BlobStore) -> Iterator[LayerWriter]:
    """Give a writer of a gzip layer; ``finished()`` tells after the block what it became."""
    with blobs.writing() as blob, _compressing(blob) as compressed:
        stream = _DiffStream(compressed)
        # cast: tarfile's stream mode needs write() only
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="w|", format=tarfile.PAX_FORMAT) as tar:
            writer = LayerWriter(tar, stream)
            yield writer
    writer.result = _layer(blob, stream.diff_id)


def pack_directory(blobs: BlobStore, directory: str, *, mtime_limit_s: int | None = None) -> Layer:
    """Store the tree at ``directory`` (an unpacked layer, or overlay's upper directory) as a layer.

    Times after ``mtime_limit_s`` (seconds since the epoch) are set to it, as SOURCE_DATE_EPOCH asks.
    """
    with writing_layer(blobs) as writer:
        for path in tree(directory):
            writer.add_path(path, os.path.relpath(path, directory), mtime_limit_s=mtime_limit_s)
    return writer.finished()


def pack_tar(blobs: BlobStore, path: str) -> Layer:
    """Store the uncompressed tar archive at ``path`` as a layer, byte for byte."""
    with blobs.writing() as blob, _compressing(blob) as compressed, open(path, "rb") as source:
        stream = _DiffStream(compressed)
        while data := source.read(READ_BYTES):
            stream.write(data)
    return _layer(blob, stream.diff_id)


def tree(directory: str) -> Iterator[str]:
    """Give the paths below ``directory``, itself first, each directory before what is in it, sorted by name."""
    yield directory
    for entry in sorted(os.scandir(directory), key=lambda entry: entry.name):
        if entry.is_dir(follow_symlinks=False):
            yield from tree(entry.path)
        else:
            yield entry.path


def _compressing(blob: BlobWriter) -> gzip.GzipFile:
    # cast: GzipFile needs write() and flush() only
    return gzip.GzipFile("", "wb", GZIP_LEVEL, cast(IO[bytes], blob), mtime=0)


def _layer(blob: BlobWriter, diff_id: str) -> Layer:
    descriptor = Descriptor(media_type=MediaType.LAYER_GZIP, digest=blob.digest, size=blob.size_bytes)
    return Layer(descriptor=descriptor, diff_id=diff_id)


def _marker(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _entry(path: str, name: str, status: os.stat_result, *, mtime_limit_s: int | None) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = _TYPES[stat.S_IFMT(status.st_mode)]
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    mtime_s = int(status.st_mtime)
    entry.mtime = mtime_s if mtime_limit_s is None else min(mtime_s, mtime_limit_s)
    if entry.isreg():
        entry.size = status.st_size
    elif entry.issym():
        entry.linkname = os.readlink(path)
    elif entry.isdev():
        entry.devmajor, entry.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    entry.pax_headers = _xattr_headers(path)
    return entry


_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _xattr_headers(path: str) -> dict[str, str]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return {
        XATTR_PAX + name: os.getxattr(path, name, follow_symlinks=False).decode("utf-8", "surrogateescape")
        for name in names
        if not name.startswith(OVERLAY_XATTR)  # overlay's bookkeeping is this host's, not the layer's
    }


def _xattr(path: str, name: str) -> bytes:
    if name not in os.listxattr(path, follow_symlinks=False):
        return b""
    return os.getxattr(path, name, follow_symlinks=False)
