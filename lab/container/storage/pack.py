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
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Protocol, cast

from lab.container.spec.image import Descriptor, MediaType
from lab.container.storage.blobs import READ_BYTES, BlobStore, BlobWriter
from lab.container.storage.compression import Compression, Readable, compressing
from lab.container.storage.holes import data_parts, has_holes
from lab.container.storage.walk import Entry, walk

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
OVERLAY_XATTR = "user.overlay." if os.geteuid() else "trusted.overlay."  # an ordinary user cannot set the usual ones
OPAQUE_XATTR = f"{OVERLAY_XATTR}opaque"
XATTR_PAX = "SCHILY.xattr."


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
        self._tar.members.clear()  # type: ignore[attr-defined]  # typeshed hides it, and tarfile would keep every entry

    def add_found(self, found: Entry, name: str, *, mtime_limit_s: int | None = None) -> None:
        """Append what a walk has found as ``name``; overlay's whiteouts become OCI's.

        A file that is gone meanwhile is left out; one that changes is as long as it was, zeros where it has ended.

        Raises:
            OSError: it cannot be read.
        """
        status = found.status
        if stat.S_ISSOCK(status.st_mode):  # a socket means nothing without its process
            return
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            self.add(_marker(os.path.join(os.path.dirname(name), WHITEOUT + os.path.basename(name))))
        elif stat.S_ISREG(status.st_mode):
            with suppress(FileNotFoundError):
                self._add_file(found, name, mtime_limit_s)
        elif found.is_directory:
            entry = _entry(name, status, mtime_limit_s=mtime_limit_s)
            attributes = _attributes(found.descriptor)
            entry.pax_headers = _headers(attributes)
            self.add(entry)
            if attributes.get(OPAQUE_XATTR) == b"y":
                self.add(_marker(os.path.join(name, OPAQUE)))
        else:
            self._add_special(found, _entry(name, status, mtime_limit_s=mtime_limit_s))

    def _add_special(self, found: Entry, entry: tarfile.TarInfo) -> None:
        if entry.issym():
            try:
                entry.linkname = os.readlink(found.name, dir_fd=found.parent)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.EINVAL):  # gone, or no link any more
                    return
                raise
        elif entry.isdev():
            entry.devmajor, entry.devminor = os.major(found.status.st_rdev), os.minor(found.status.st_rdev)
        self.add(entry)

    def _add_file(self, found: Entry, name: str, mtime_limit_s: int | None) -> None:
        key = (found.status.st_dev, found.status.st_ino)
        if found.status.st_nlink > 1 and key in self._links:
            entry = _entry(name, found.status, mtime_limit_s=mtime_limit_s)
            entry.type, entry.linkname = tarfile.LNKTYPE, self._links[key]
            self.add(entry)
            return
        with os.fdopen(found.open(), "rb", buffering=0) as content:
            status = os.fstat(content.fileno())  # of what we read, whatever was there before
            if not stat.S_ISREG(status.st_mode):
                return
            self._links[status.st_dev, status.st_ino] = name
            entry = _entry(name, status, mtime_limit_s=mtime_limit_s)
            entry.pax_headers = _headers(_attributes(content.fileno()))
            parts = [(0, status.st_size)]
            table = b""
            if has_holes(status):
                parts = [*data_parts(content.fileno(), status.st_size)]
                table = _make_sparse(entry, parts)
            self.add(entry, cast(IO[bytes], _Parts(table, content.fileno(), parts)))  # cast: addfile needs read() only


def _make_sparse(entry: tarfile.TarInfo, parts: list[tuple[int, int]]) -> bytes:
    """Turn an entry into one with its holes left out, in GNU's format 1.0, and return the table before its data.

    Tar, Go and Python read it. Their readers take the name that comes last, hence the order.
    """
    if sum(parts[-1] if parts else (0, 0)) < entry.size:  # a hole at the end is told by an empty part there
        parts.append((entry.size, 0))
    numbers = [len(parts), *(number for part in parts for number in part)]
    table = "".join(f"{number}\n" for number in numbers).encode()
    table += bytes(-len(table) % tarfile.BLOCKSIZE)
    directory, name = os.path.split(entry.name)
    placeholder = os.path.join(directory, "GNUSparseFile.0", name)
    entry.pax_headers = {
        **entry.pax_headers,
        "path": placeholder,
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": entry.name,
        "GNU.sparse.realsize": str(entry.size),
    }
    entry.name = placeholder
    entry.size = len(table) + sum(size for _, size in parts)
    return table


class _Parts:
    """Some bytes, then parts of a file, each as long as was announced, whatever happens to the file meanwhile."""

    def __init__(self, head: bytes, descriptor: int, parts: Sequence[tuple[int, int]]) -> None:
        self._head = head
        self._descriptor = descriptor
        self._parts = list(reversed(parts))

    def read(self, size: int) -> bytes:
        """Return ``size`` bytes; those of the last part are followed by none."""
        data, self._head = self._head[:size], self._head[size:]
        while self._parts and len(data) < size:
            offset, left = self._parts.pop()
            wanted = min(left, size - len(data))
            more = os.pread(self._descriptor, wanted, offset)
            more = more or bytes(wanted)  # it has become shorter
            data = data + more if data else more
            if len(more) < left:
                self._parts.append((offset + len(more), left - len(more)))
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
    # cast: writing forward needs write() and tell() only; tarfile's own stream mode moves everything in 10 KiB
    file = cast(IO[bytes], _Forward(target))
    return tarfile.TarFile(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, copybufsize=READ_BYTES)


class _Forward:
    """A target as tarfile wants it, to which it then writes what it has, from the beginning to the end."""

    def __init__(self, target: _Target) -> None:
        self.write = target.write

    def tell(self) -> int:
        return 0


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
        for found in walk(directory):
            if found.path:
                writer.add_found(found, found.path)


def pack_tree(directory: str, target: _Target) -> None:
    """Write the tree at ``directory`` as an uncompressed tar, the root as its first entry.

    Raises:
        OSError: a file cannot be read, or the target not written.
    """
    with writing_tree(target) as writer:
        _add_tree(writer, directory, None)


def _add_tree(writer: TreeWriter, directory: str, mtime_limit_s: int | None) -> None:
    for found in walk(directory):
        writer.add_found(found, found.path or ".", mtime_limit_s=mtime_limit_s)


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


_MEDIA_TYPES = {Compression.GZIP: MediaType.LAYER_GZIP, Compression.ZSTD: MediaType.LAYER_ZSTD}


def _layer(blob: BlobWriter, diff_id: str, compression: Compression) -> Layer:
    descriptor = Descriptor(media_type=_MEDIA_TYPES[compression], digest=blob.digest, size=blob.size_bytes)
    return Layer(descriptor=descriptor, diff_id=diff_id)


def _marker(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


def _entry(name: str, status: os.stat_result, *, mtime_limit_s: int | None) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = _TYPES[stat.S_IFMT(status.st_mode)]
    entry.mode = stat.S_IMODE(status.st_mode)
    entry.uid, entry.gid = status.st_uid, status.st_gid
    mtime_s = int(status.st_mtime)
    entry.mtime = mtime_s if mtime_limit_s is None else min(mtime_s, mtime_limit_s)
    entry.size = status.st_size if entry.isreg() else 0
    return entry


_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _attributes(descriptor: int) -> dict[str, bytes]:
    found = {}
    for name in sorted(os.listxattr(descriptor)):
        try:
            found[name] = os.getxattr(descriptor, name)
        except OSError as error:
            if error.errno != errno.ENODATA:  # removed meanwhile
                raise
    return found


def _headers(attributes: Mapping[str, bytes]) -> dict[str, str]:
    return {
        XATTR_PAX + name: value.decode("utf-8", "surrogateescape")
        for name, value in attributes.items()
        if not name.startswith(OVERLAY_XATTR)  # overlay's bookkeeping is this host's, not the layer's
    }
