"""What containers write: read away as it comes, so that none ever blocks on a full pipe, and the end of it kept."""

from __future__ import annotations

import contextlib
import os
import selectors
import threading
import time

from lab.container.spawner_client import Running

TAIL_BYTES = 65536
_CHUNK_BYTES = 65536


class Tail:
    """The last bytes of a stream."""

    def __init__(self, start: bytes = b"") -> None:
        """``start`` is what has been read already."""
        self._buffer = bytearray(start)
        self._lock = threading.Lock()

    def append(self, data: bytes) -> None:
        """Add what has come."""
        with self._lock:
            self._buffer += data
            del self._buffer[:-TAIL_BYTES]

    @property
    def text(self) -> str:
        """The end of the stream as text."""
        with self._lock:
            return self._buffer.decode(errors="replace")


class Drain:
    """One thread that reads any number of pipes away; it starts with the first pipe."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def add(self, descriptor: int, tail: Tail) -> None:
        """Read ``descriptor`` into ``tail`` until its end, and close it then."""
        with self._lock:
            self._selector.register(descriptor, selectors.EVENT_READ, tail)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="container-output", daemon=True)
                self._thread.start()
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.data is None:
                    os.eventfd_read(self._wake)
                else:
                    self._read(key.fd, key.data)

    def _read(self, descriptor: int, tail: Tail) -> None:
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except OSError:
            data = b""
        if data:
            tail.append(data)
            return
        with self._lock:
            self._selector.unregister(descriptor)
        os.close(descriptor)


def communicate(
    running: Running, *, stdin: int, stdout: int, stderr: int, data: bytes, deadline_ns: int
) -> tuple[int, bytes, bytes]:
    """Feed and read a process to its end; return its exit code and all that it wrote. Closes the descriptors.

    What a process leaves running in the background may hold its output open; that is not waited for.

    Raises:
        TimeoutError: it had not ended at ``deadline_ns`` (CLOCK_MONOTONIC); its process group has been killed.
    """
    outputs = {stdout: bytearray(), stderr: bytearray()}
    with _Pipes(stdin, outputs, data) as pipes:
        while (code := running.wait(time.monotonic_ns())) is None:
            if not pipes.pump(running.fileno(), deadline_ns):
                running.kill_group()
                running.wait()
                raise TimeoutError
        pipes.read_rest()
    return code, bytes(outputs[stdout]), bytes(outputs[stderr])


class _Pipes:
    """The caller's ends of a process's standard streams."""

    def __init__(self, stdin: int, outputs: dict[int, bytearray], data: bytes) -> None:
        self._stdin = stdin
        self._outputs = outputs
        self._data = memoryview(data)
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> _Pipes:
        for descriptor in (self._stdin, *self._outputs):
            os.set_blocking(descriptor, False)
        self._selector.register(self._stdin, selectors.EVENT_WRITE)
        for descriptor in self._outputs:
            self._selector.register(descriptor, selectors.EVENT_READ)
        self._feed()
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._selector.get_map().values()):
            os.close(key.fd)
        self._selector.close()

    def pump(self, exit_descriptor: int, deadline_ns: int) -> bool:
        """Move what can be moved; False at the deadline."""
        self._selector.register(exit_descriptor, selectors.EVENT_READ)
        try:
            ready = self._selector.select(max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
        finally:
            self._selector.unregister(exit_descriptor)
        for key, _ in ready:
            if key.fd == self._stdin:
                self._feed()
            elif key.fd in self._outputs:
                self._read(key.fd)
        return bool(ready) or time.monotonic_ns() < deadline_ns

    def read_rest(self) -> None:
        """Read what is there without waiting for more."""
        for descriptor in list(self._outputs):
            while descriptor in self._selector.get_map() and self._read(descriptor):
                continue

    def _feed(self) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                while self._data:
                    self._data = self._data[os.write(self._stdin, self._data) :]
            except BrokenPipeError:
                self._data = self._data[:0]  # it does not want to read more
            self._close(self._stdin)

    def _read(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._outputs[descriptor] += data
        else:
            self._close(descriptor)
        return bool(data)

    def _close(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)
