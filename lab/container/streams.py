"""What a container writes and is typed, on its way between its pipes or terminal, its log, and those who are attached.

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os

from lab.container import slumber
from lab.container.log_file import Log
from lab.container.loop import WRITABLE, Loop
from lab.linux import pipe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CHUNK_BYTES = 65536
_BACKLOG_BYTES = 1 << 20  # what may wait for a listener before the container has to


class Peek:
    """Reads pipes in two steps, look and take: what a reader that is killed between them has not noted is still there.

    So who writes down what it has seen before it takes it loses nothing; one serves any number of pipes.
    """

    def __init__(self) -> None:
        self._source, self._target = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)

    def look(self, descriptor: int) -> bytes:
        """Return what is in a pipe, b"" at its end.

        Raises:
            BlockingIOError: there is nothing now.
        """
        size = pipe.tee(descriptor, self._target, _CHUNK_BYTES)
        return os.read(self._source, size) if size else b""

    def take(self, descriptor: int, size_bytes: int) -> None:
        """Remove what has been seen."""
        while size_bytes:
            size_bytes -= os.splice(descriptor, self._null, size_bytes)


class Listener:
    """One who listens to a stream: the writing end of a pipe of theirs, never waited for."""

    def __init__(self, loop: Loop, descriptor: int) -> None:
        """Take over the writing end of a pipe."""
        os.set_blocking(descriptor, False)
        self._loop = loop
        self._descriptor = descriptor
        self._backlog = bytearray()
        self._is_ending = False
        self.on_drained: Callable[[], None] | None = None

    @property
    def is_full(self) -> bool:
        """Whether the container should wait for this listener."""
        return len(self._backlog) > _BACKLOG_BYTES

    @property
    def is_there(self) -> bool:
        """Whether the pipe is still open at its other end."""
        return self._descriptor >= 0 and slumber.has_reader(self._descriptor)

    def write(self, data: bytes) -> None:
        """Give data, or keep it until there is room."""
        if self._descriptor < 0:
            return
        if not self._backlog:
            data = data[self._try(data) :]
        if data and self._descriptor >= 0:
            if not self._backlog:
                self._loop.watch(self._descriptor, self._on_room, WRITABLE)
            self._backlog += data

    def end(self) -> None:
        """Close the pipe as soon as all is written."""
        self._is_ending = True
        if not self._backlog:
            self._close()

    def _on_room(self, _: int) -> None:
        del self._backlog[: self._try(self._backlog)]
        if self._descriptor >= 0 and not self._backlog:
            self._loop.forget(self._descriptor)
            if self._is_ending:
                self._close()
        if self.on_drained is not None and not self.is_full:
            self.on_drained()

    def _try(self, data: bytes | bytearray) -> int:
        try:
            return os.write(self._descriptor, data)
        except BlockingIOError:
            return 0
        except BrokenPipeError:  # it does not listen any more
            self._backlog.clear()
            self._close()
            return len(data)

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._loop.forget(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Output:
    """One stream of a container: read away as it comes, into the log and to all listeners."""

    def __init__(self, loop: Loop, stream: str, descriptor: int, log: Log, peek: Peek | None) -> None:
        """Take over the reading end; without ``peek`` it is a terminal."""
        os.set_blocking(descriptor, False)
        self._loop = loop
        self._stream = stream
        self._descriptor = descriptor
        self._log = log
        self._peek = peek
        self._listeners: list[Listener] = []
        self._is_paused = False
        loop.watch(descriptor, self._on_readable)

    @property
    def descriptor(self) -> int:
        """The reading end (a terminal's other side), -1 once it is closed."""
        return self._descriptor

    @property
    def is_heard(self) -> bool:
        """Whether somebody listens who is still there."""
        return any(listener.is_there for listener in self._listeners)

    def add(self, listener: Listener) -> None:
        """Let one more listen from now on."""
        listener.on_drained = self._resume
        self._listeners.append(listener)

    def finish(self) -> None:
        """Read what is there, close, and let the listeners go."""
        while self._descriptor >= 0 and self._read():
            pass
        self._close()

    def _on_readable(self, _: int) -> None:
        if not self._read() and self._descriptor >= 0:
            self._loop.forget(self._descriptor)  # its end: nobody has it open for writing any more
            os.close(self._descriptor)
            self._descriptor = -1
        if any(listener.is_full for listener in self._listeners):
            self._is_paused = True
            self._loop.forget(self._descriptor)

    def _read(self) -> bool:
        try:
            data = self._look()
        except OSError:  # EAGAIN: nothing now; EIO: a terminal whose last user has gone
            return False
        if data:
            self._log.append(self._stream, data)
            if self._peek is not None:
                self._peek.take(self._descriptor, len(data))
            for listener in self._listeners:
                listener.write(data)
        return bool(data)

    def _look(self) -> bytes:
        if self._peek is None:
            return os.read(self._descriptor, _CHUNK_BYTES)
        return self._peek.look(self._descriptor)

    def _resume(self) -> None:
        if self._is_paused and self._descriptor >= 0:
            self._is_paused = False
            self._loop.watch(self._descriptor, self._on_readable)

    def _close(self) -> None:
        if self._descriptor >= 0:
            self._loop.forget(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        for listener in self._listeners:
            listener.end()
        self._listeners.clear()


class TerminalInput:
    """What one who is attached types, on its way to the container's terminal."""

    def __init__(self, loop: Loop, source: int, console: Callable[[], int]) -> None:
        """Take over the reading end of a pipe; ``console`` says what to write to, -1 when it is gone."""
        self._loop, self._source, self._console = loop, source, console
        loop.watch(source, self._on_typed)

    def _on_typed(self, _: int) -> None:
        data = os.read(self._source, _CHUNK_BYTES)
        if not data:
            self.close()
            return
        try:
            os.write(self._console(), data)
        except OSError:  # EAGAIN: a terminal drops what nobody reads; EBADF, EIO: it has gone
            return

    def close(self) -> None:
        """Stop reading; safe to call twice."""
        if self._source >= 0:
            self._loop.forget(self._source)
            os.close(self._source)
            self._source = -1
