"""Layers and archives, compressed or not: streams that are read and written in pieces.

What a stream is compressed by is seen from its first bytes, since media types and file names are wrong at times.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import zlib
from collections.abc import Callable
from enum import StrEnum
from typing import IO, TYPE_CHECKING, Protocol, cast

from lab.errors import LayerCorrupt

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from types import TracebackType

GZIP_LEVEL = 1  # a layer is packed more often than it travels: level 6 takes 3 times as long for 15 % less
ZSTD_LEVEL = 3
_READ_BYTES = 256 * 1024
_HEAD_BYTES = 6


class Compression(StrEnum):
    """How a stream is compressed; the value is what media types and file names end with."""

    NONE = ""
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


_MAGIC = (
    (b"\x1f\x8b", Compression.GZIP),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\x00", Compression.XZ),
)


class Readable(Protocol):
    """Anything that gives bytes."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, b"" at the end."""
        ...


class Writable(Protocol):
    """Anything that takes bytes."""

    def write(self, data: bytes, /) -> int:
        """Take all of ``data`` and return its length."""
        ...

    def flush(self) -> None:
        """Pass on what has been taken."""
        ...


class Compressor(Protocol):
    """A stream that compresses what is written, and ends with the block that it is used in."""

    def write(self, data: bytes, /) -> int:
        """Take all of ``data`` and return its length."""
        ...

    def __enter__(self) -> Compressor:
        """Return itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None:
        """Write the end."""
        ...


class _Decompressor(Protocol):
    """What the decompressors of the standard library have in common; zlib's needs a little help."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _GzipMember:
    """One member of a gzip stream, with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


_DECOMPRESSORS: dict[Compression, Callable[[], _Decompressor]] = {
    Compression.GZIP: _GzipMember,
    Compression.ZSTD: zstd.ZstdDecompressor,
    Compression.BZIP2: bz2.BZ2Decompressor,
    Compression.XZ: lzma.LZMADecompressor,
}
_FAULTS = (zlib.error, zstd.ZstdError, lzma.LZMAError, OSError, EOFError)  # bz2 raises OSError without errno


class _Decompressed:
    """A stream of compressed members, one after the other; padding of zeros after the last is no member."""

    def __init__(self, source: Readable, head: bytes, compression: Compression) -> None:
        self._source = source
        self._compression = compression
        self._make = _DECOMPRESSORS[compression]
        self._member = self._make()
        self._input = head

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, b"" at the end.

        Raises:
            LayerCorrupt: the stream is damaged or ends too early.
        """
        while True:
            if self._member.eof and not self._begin_member():
                return b""
            if not self._input and self._member.needs_input:
                self._input = self._source.read(_READ_BYTES)
                if not self._input:
                    raise LayerCorrupt(f"cannot be decompressed: the {self._compression} stream ends too early")
            given, self._input = self._input, b""
            data = self._decompress(given, size)
            if data:
                return data

    def _decompress(self, given: bytes, size: int) -> bytes:
        try:
            return self._member.decompress(given, size)
        except _FAULTS as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise LayerCorrupt(f"cannot be decompressed: {error}") from error

    def _begin_member(self) -> bool:
        rest = self._member.unused_data
        while not (rest := rest.lstrip(b"\0")):
            rest = self._source.read(_READ_BYTES)
            if not rest:
                return False
        self._member, self._input = self._make(), rest
        return True


class _Rest:
    """A stream of which some bytes have been read already."""

    def __init__(self, head: bytes, source: Readable) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


def compression_of(head: bytes) -> Compression:
    """Return how a stream with these first bytes is compressed."""
    return next((found for magic, found in _MAGIC if head.startswith(magic)), Compression.NONE)


def decompressed(source: Readable) -> Readable:
    """Return the stream without its compression, whichever that is; its ``read`` may raise ``LayerCorrupt``."""
    head = b""
    while len(head) < _HEAD_BYTES and (more := source.read(_HEAD_BYTES - len(head))):
        head += more
    compression = compression_of(head)
    return _Rest(head, source) if compression is Compression.NONE else _Decompressed(source, head, compression)


def compressing(target: Writable, compression: Compression) -> Compressor:
    """Return a stream that writes gzip or zstd to ``target``: the same bytes each time, without name or time."""
    # cast: both need write() and flush() only
    file = cast(IO[bytes], target)
    if compression is Compression.ZSTD:
        return zstd.ZstdFile(file, "wb", level=ZSTD_LEVEL)
    assert compression is Compression.GZIP, "layers are written as gzip or zstd"
    return gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0)
