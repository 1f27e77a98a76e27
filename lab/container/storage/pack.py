"""Files to layer: a tar stream, compressed and hashed as it is written.

The same files give the same bytes: entries are sorted, no user or group names are stored, times are whole seconds
and can be clamped, the gzip header has no time. Overlay's own marks become the whiteouts of the image specification.
Source: https://github.com/opencontainers/image-spec/blob/main/layer.md.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import IO, Protocol, cast

from lab.container.spec.image import Descriptor, MediaType
from lab.container.storage.blobs import READ_BYTES, BlobStore, BlobWriter
from lab.container.storage.compression import Compression, Readable, compressing

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OVERLAY_XATTR = "user.overlay." if os.geteuid() else "trusted.overlay."  # an ordinary user cannot set the usual ones
OPAQUE_XATTR = f"{OVERLAY_XATTR}opaque"
XATTR_PAX = "SCHILY.xattr."
_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer in the store: its blob, and the digest of its tar before compression."""

    descriptor: Descriptor
    diff_id: str


class _Target(Protocol):
    """Where a tar goes."""

    def write(self, data: bytes, /) -> int: ...


class _DiffStream:
    """What tarfile writes to: hashes the tar and hands it to the compressor."""

    def __init__(self, target: _Target) -> None:
        self._target = target
        self._hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        return self._target.write(data)

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


@dataclass(slots=True)
class TreeWriter:
    """A tree being written as a tar stream; hard links, holes and extended attributes are kept."""

    _tar: tarfile.TarFile
    _links: dict[tuple[int, int], str] = field(default_factory=dict)

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
            if _has_holes(status):
                self._add_sparse(entry, content)
            else:
                self.add(entry, content)

    def _add_sparse(self, entry: tarfile.TarInfo, content: IO[bytes]) -> None:
        """Append a file with its holes left out, in GNU's format 1.0, which tar, Go and Python read."""
        parts = _data_parts(content.fileno(), entry.size)
        numbers = [len(parts), *(number for part in parts for number in part)]
        table = "".join(f"{number}\n" for number in numbers).encode()
        table += bytes(-len(table) % tarfile.BLOCKSIZE)
        directory, name = os.path.split(entry.name)
        entry.pax_headers = {
            **entry.pax_headers,
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": entry.name,
            "GNU.sparse.realsize": str(entry.size),
        }
        entry.name = os.path.join(directory, "GNUSparseFile.0", name)
        entry.size = len(table) + sum(size for _, size in parts)
        self.add(entry, cast(IO[bytes], _Parts(table, content, parts)))  # cast: addfile needs read() only


class _Parts:
    """The table of a sparse file, then its parts, as one stream."""

    def __init__(self, table: bytes, content: IO[bytes], parts: list[tuple[int, int]]) -> None:
        self._streams: list[BytesIO | _Part] = [_Part(content, offset, size) for offset, size in reversed(parts)]
        self._streams.append(BytesIO(table))

    def read(self, size: int) -> bytes:
        data = b""
        while self._streams and len(data) < size:
            more = self._streams[-1].read(size - len(data))
            data += more
            if not more:
                self._streams.pop()
        return data


class _Part:
    """One part of a file."""

    def __init__(self, content: IO[bytes], offset: int, size: int) -> None:
        self._content = content
        self._offset = offset
        self._left = size

    def read(self, size: int) -> bytes:
        data = os.pread(self._content.fileno(), min(size, self._left), self._offset)
        self._offset += len(data)
        self._left -= len(data)
        return data


@dataclass(slots=True)
class LayerWriter(TreeWriter):
    """A layer being written; ``finished()`` tells what it became once the ``writing_layer`` block has ended."""

    result: Layer | None = None

    def finished(self) -> Layer:
        """Return the layer; valid after the block."""
        assert self.result is not None, "the layer is still being written"
        return self.result


@contextmanager
def writing_layer(blobs: BlobStore, *, compression: Compression = Compression.GZIP) -> Iterator[LayerWriter]:
    """Give a writer of a layer; ``finished()`` tells after the block what it became."""
    with blobs.writing() as blob, compressing(blob, compression) as compressed:
        stream = _DiffStream(compressed)
        with _tar(stream) as tar:
            writer = LayerWriter(tar)
            yield writer
    writer.result = _layer(blob, stream.diff_id, compression)


@contextmanager
def writing_tree(target: _Target) -> Iterator[TreeWriter]:
    """Give a writer of an uncompressed tar to ``target``."""
    with _tar(target) as tar:
        yield TreeWriter(tar)


def _tar(target: _Target) -> tarfile.TarFile:
    # cast: tarfile's stream mode needs write() only
    return tarfile.open(fileobj=cast(IO[bytes], target), mode="w|", format=tarfile.PAX_FORMAT)


def pack_directory(
    blobs: BlobStore,
    directory: str,
    *,
    mtime_limit_s: int | None = None,
    compression: Compression = Compression.GZIP,
) -> Layer:
    """Store the tree at ``directory`` (an unpacked layer, or overlay's upper directory) as a layer.

    Times after ``mtime_limit_s`` (seconds since the epoch) are set to it, as SOURCE_DATE_EPOCH asks. What overlay's
    upper directory hides becomes whiteouts.

    Raises:
        OSError: a file cannot be read; nothing is stored.
    """
    with writing_layer(blobs, compression=compression) as writer:
        _add_tree(writer, directory, mtime_limit_s)
    return writer.finished()


def write_tree(directory: str, target: _Target) -> None:
    """Write the tree at ``directory`` as an uncompressed tar without an entry for the root, as ``export`` gives it.

    Raises:
        OSError: a file cannot be read, or the target not written.
    """
    with writing_tree(target) as writer:
        for path in tree(directory):
            if path != directory:
                writer.add_path(path, os.path.relpath(path, directory))


def _add_tree(writer: TreeWriter, directory: str, mtime_limit_s: int | None) -> None:
    for path in tree(directory):
        writer.add_path(path, os.path.relpath(path, directory), mtime_limit_s=mtime_limit_s)


def pack_stream(blobs: BlobStore, source: Readable, *, compression: Compression = Compression.GZIP) -> Layer:
    """Store an uncompressed tar as a layer, byte for byte.

    Raises:
        LayerCorrupt: the source is damaged; nothing is stored.
    """
    with blobs.writing() as blob, compressing(blob, compression) as compressed:
        stream = _DiffStream(compressed)
        while data := source.read(READ_BYTES):
            stream.write(data)
    return _layer(blob, stream.diff_id, compression)


def pack_tar(blobs: BlobStore, path: str) -> Layer:
    """Store the uncompressed tar archive at ``path`` as a layer, byte for byte."""
    with open(path, "rb") as source:
        return pack_stream(blobs, source)


def tree(directory: str) -> Iterator[str]:
    """Give the paths below ``directory``, itself first, each directory before what is in it, sorted by name."""
    waiting: list[tuple[str, bool]] = [(directory, True)]  # the next last; no recursion, since it may be any depth
    while waiting:
        path, is_directory = waiting.pop()
        yield path
        if is_directory:
            entries = sorted(os.scandir(path), key=lambda entry: entry.name, reverse=True)
            waiting += [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]


_MEDIA_TYPES = {Compression.GZIP: MediaType.LAYER_GZIP, Compression.ZSTD: MediaType.LAYER_ZSTD}


def _layer(blob: BlobWriter, diff_id: str, compression: Compression) -> Layer:
    descriptor = Descriptor(media_type=_MEDIA_TYPES[compression], digest=blob.digest, size=blob.size_bytes)
    return Layer(descriptor=descriptor, diff_id=diff_id)


def _has_holes(status: os.stat_result) -> bool:
    return status.st_blocks * _BLOCK_BYTES < status.st_size


def _data_parts(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Return offset and size of the parts that are no holes; a hole at the end is told by an empty part there."""
    parts = []
    offset = 0
    while offset < size:
        try:
            begin = os.lseek(descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
            break
        offset = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size)
        parts.append((begin, offset - begin))
    return parts if offset == size else [*parts, (size, 0)]


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
