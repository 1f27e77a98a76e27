"""Being attached to a container or a program in one: bytes both ways, signals, terminal size.

Source: docs.docker.com/reference/cli/docker/container/attach.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import signal
import struct
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import ioctl
from types import FrameType

from lab.container.detach_keys import Detached, DetachFilter

_CHUNK_BYTES = 65536
_NOT_FORWARDED = ("SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT")


class _Input:
    """What is typed or piped in, on its way to a pipe that may be full for a while."""

    def __init__(self, selector: selectors.BaseSelector, source: int, target: int, keys: DetachFilter | None) -> None:
        os.set_blocking(target, False)
        self._selector, self._source, self._target, self._keys = selector, source, target, keys
        self._pending = bytearray()
        self._has_ended = False
        selector.register(source, selectors.EVENT_READ, self._read)

    def _read(self) -> None:
        data = os.read(self._source, _CHUNK_BYTES)
        if not data:
            self._selector.unregister(self._source)
            os.close(self._target)
            self._has_ended = True
            return
        try:
            self._pending += data if self._keys is None else self._keys.feed(data)
        except Detached as detached:
            self._pending += detached.typed
            raise
        finally:
            self._write()
        if self._pending:
            self._selector.unregister(self._source)
            self._selector.register(self._target, selectors.EVENT_WRITE, self._go_on)

    def _write(self) -> None:
        try:
            while self._pending:
                del self._pending[: os.write(self._target, self._pending)]
        except BlockingIOError:
            return
        except OSError:  # EPIPE: nobody wants it any more
            self._pending.clear()

    def _go_on(self) -> None:
        self._write()
        if not self._pending:
            self._selector.unregister(self._target)
            self._selector.register(self._source, selectors.EVENT_READ, self._read)

    def redirect(self, target: int) -> None:
        """Write to another pipe from now on; one that has ended closes that as well."""
        os.set_blocking(target, False)
        if self._has_ended:
            os.close(target)
            return
        if self._pending:
            self._selector.unregister(self._target)
            self._selector.register(target, selectors.EVENT_WRITE, self._go_on)
        os.close(self._target)
        self._target = target


class Relay:
    """Copies between this command's own streams and pipes, until all output has come."""

    def __init__(self, *, keys: DetachFilter | None = None) -> None:
        """Without ``keys`` nothing typed detaches."""
        self._selector = selectors.PollSelector()  # which takes plain files as well
        self._keys = keys
        self._outputs = 0
        self._inputs: dict[int, _Input] = {}
        self.written_bytes: dict[int, int] = {}

    def output(self, source: int, target: int) -> None:
        """Copy from the pipe or terminal ``source``, which is closed at its end, to this command's ``target``."""
        self._outputs += 1

        def copy() -> None:
            try:
                data = os.read(source, _CHUNK_BYTES)
            except OSError:  # EIO: a terminal whose last user has gone
                data = b""
            if data:
                self.write(target, data)
            else:
                self._selector.unregister(source)
                os.close(source)
                self._outputs -= 1

        self._selector.register(source, selectors.EVENT_READ, copy)

    def write(self, target: int, data: bytes) -> None:
        """Write to this command's ``target``; ``written_bytes`` counts it."""
        _write_all(target, data)
        self.written_bytes[target] = self.written_bytes.get(target, 0) + len(data)

    def input(self, source: int, target: int) -> None:
        """Copy from this command's ``source`` to the pipe ``target``, which is closed at the end.

        A further call for the same source lets ``target`` take the place of the pipe before, which is closed.
        """
        if source in self._inputs:
            self._inputs[source].redirect(target)
        else:
            self._inputs[source] = _Input(self._selector, source, target, self._keys)

    def run(self) -> None:
        """Copy until all outputs have ended.

        Raises:
            Detached: the user has typed the detach keys.
        """
        while self._outputs:
            for key, _ in self._selector.select():
                key.data()


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(target, view) :]
        except BlockingIOError:  # somebody has made our terminal non-blocking
            select.select([], [target], [])


@contextmanager
def raw_terminal(descriptor: int) -> Iterator[None]:
    """Hand every key to the container while the block lasts; a descriptor that is no terminal is left alone."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    try:
        tty.setraw(descriptor, termios.TCSANOW)  # what has been typed already is the container's
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def terminal_size(descriptor: int) -> tuple[int, int] | None:
    """Return rows and columns of a terminal, None if it is none."""
    try:
        rows, columns, _, _ = struct.unpack("=HHHH", ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


@contextmanager
def following_size(resize: Callable[[int, int], None]) -> Iterator[None]:
    """Tell ``resize`` the size of this command's terminal (rows, columns), now and at each change during the block."""

    def tell(_: int = 0, __: FrameType | None = None) -> None:
        size = terminal_size(sys.stdout.fileno()) or terminal_size(sys.stdin.fileno())
        if size is not None:
            resize(*size)

    before = signal.signal(signal.SIGWINCH, tell)
    try:
        tell()
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


class SignalProxy:
    """Hands signals on once there is somebody to get them; those that come before are kept."""

    def __init__(self, send: Callable[[int], None]) -> None:
        """``send`` gets each signal."""
        self._send = send
        self._kept: list[int] | None = []

    def take(self, number: int) -> None:
        """Hand a signal on, or keep it."""
        if self._kept is None:
            self._send(number)
        else:
            self._kept.append(number)

    def begin(self) -> None:
        """Hand on what has been kept, and from now on everything at once."""
        kept, self._kept = self._kept or [], None
        for number in kept:
            self._send(number)


@contextmanager
def forwarding_signals(send: Callable[[int], None]) -> Iterator[None]:
    """Hand all signals that this command gets to ``send`` while the block lasts."""

    def forward(number: int, _: FrameType | None) -> None:
        send(number)

    kept = {}
    for each in signal.Signals:
        if each.name in _NOT_FORWARDED or each in (signal.SIGKILL, signal.SIGSTOP):
            continue
        with contextlib.suppress(OSError, ValueError):
            kept[each] = signal.signal(each, forward)
    try:
        yield
    finally:
        for each, before in kept.items():
            signal.signal(each, before if before is not None else signal.SIG_DFL)
