"""A stream that is read ahead in a thread: decompressing and hashing run beside what is done with the result."""

from __future__ import annotations

import queue
import threading
from types import TracebackType

from lab.container.storage.compression import Readable

_PIECES = 8  # with pieces of 1 MiB: what is kept in memory, and how far ahead


class ReadAhead:
    """Pieces of ``source``, in order; to be used in a ``with`` block, after which nobody reads the source any more."""

    def __init__(self, source: Readable, *, piece_bytes: int) -> None:
        self._source = source
        self._piece_bytes = piece_bytes
        self._pieces: queue.Queue[bytes | BaseException] = queue.Queue(_PIECES)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._ended = False

    def __enter__(self) -> ReadAhead:
        """Begin to read."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop reading, wherever the thread is."""
        self._stopped.set()
        while self._thread.is_alive():
            try:
                self._pieces.get(timeout=0.01)  # the thread may be waiting for a free place
            except queue.Empty:
                continue
        self._thread.join()

    def read(self, _: int, /) -> bytes:
        """Return the next piece, b"" at the end; what reading the source raised is raised here."""
        if self._ended:
            return b""
        piece = self._pieces.get()
        if isinstance(piece, BaseException):
            self._ended = True
            raise piece
        self._ended = not piece
        return piece

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                piece = self._source.read(self._piece_bytes)
                self._pieces.put(piece)
                if not piece:
                    return
        except BaseException as error:
            self._pieces.put(error)
