"""A stream that is read ahead in a thread: decompressing and hashing run beside what is done with the result."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING

from lab.container.storage.compression import Readable

if TYPE_CHECKING:
    from concurrent.futures import Future

_PIECES = 8  # with pieces of 1 MiB: what is kept in memory, and how far ahead


class ReadAhead:
    """Pieces of ``source``, in order; to be used in a ``with`` block, after which nobody reads the source any more."""

    def __init__(self, source: Readable, *, piece_bytes: int) -> None:
        from concurrent.futures import ThreadPoolExecutor  # imports logging, which a container's start must not

        self._source = source
        self._piece_bytes = piece_bytes
        self._thread = ThreadPoolExecutor(1, "read-ahead")
        self._pending: deque[Future[bytes]] = deque()
        self._ended = False

    def __enter__(self) -> ReadAhead:
        """Begin to read."""
        for _ in range(_PIECES):
            self._pending.append(self._thread.submit(self._source.read, self._piece_bytes))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading; what is being read at the moment is waited for."""
        self._thread.shutdown(cancel_futures=True)

    def read(self, _: int, /) -> bytes:
        """Return the next piece, b"" at the end; what reading the source raised is raised here."""
        if self._ended:
            return b""
        piece = self._pending.popleft().result()
        self._ended = not piece
        if piece:
            self._pending.append(self._thread.submit(self._source.read, self._piece_bytes))
        return piece
