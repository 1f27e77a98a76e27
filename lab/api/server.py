"""The socket: who may connect, a thread for each connection, and an orderly end.

There is no state here but the connections themselves: whatever the server knows, it reads from the root each time.
"""

from __future__ import annotations

import contextlib
import grp
import os
import select
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType

from lab.api.http import ClientGone, Connection, Headers
from lab.errors import KernelError, SpecError, StateConflict
from lab.units import NS_PER_S

BACKLOG = 1024
_GRACE_NS = 2 * NS_PER_S
_MODE = 0o660
_STOPS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A socket that clients connect with, and what becomes of each of them before it is heard: ClientGone, if refused.

    ``secure`` takes the client's socket over.
    """

    listening: socket.socket
    secure: Callable[[socket.socket], socket.socket] = lambda client: client


class Server:
    """Listens, and has each connection served by a thread of its own."""

    def __init__(self, serve: Callable[[Connection], None], headers: Headers) -> None:
        """Serve nobody yet; ``serve`` is called in a thread for each connection, ``headers`` are of every answer."""
        self._serve, self._headers = serve, headers
        self._open: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()

    def run(self, listeners: Sequence[Listener], stopping: int) -> None:
        """Serve until the descriptor ``stopping`` is readable."""
        known = {each.listening.fileno(): each for each in listeners}
        poll = select.poll()
        for descriptor in (*known, stopping):
            poll.register(descriptor, select.POLLIN)
        while stopping not in (ready := dict(poll.poll())):
            for descriptor in ready:
                self._accept(known[descriptor])

    def _accept(self, listener: Listener) -> None:
        try:
            client, _ = listener.listening.accept()
        except OSError:  # it has gone, or there are no descriptors left: then others have to go first
            time.sleep(0.05)
            return
        connection = Connection(client, self._headers)
        thread = threading.Thread(target=self._attend, args=(connection, listener), name="client", daemon=True)
        with self._lock:
            self._open[connection] = thread
        thread.start()

    def _attend(self, connection: Connection, listener: Listener) -> None:
        try:
            connection.socket = listener.secure(connection.socket)
            self._serve(connection)
        except ClientGone:  # it is none of ours
            return
        finally:
            with self._lock:
                del self._open[connection]
            connection.socket.close()

    def finish(self) -> None:
        """Let those that wait for a request go at once, give the others a moment, and cut them off then."""
        with self._lock:
            still = dict(self._open)
        for connection in still:
            if connection.is_idle:
                _cut_off(connection)
        deadline_ns = time.monotonic_ns() + _GRACE_NS
        for thread in still.values():
            thread.join(max(0, deadline_ns - time.monotonic_ns()) / NS_PER_S)
        for connection, thread in still.items():
            _cut_off(connection)
            thread.join(0.1)


def _cut_off(connection: Connection) -> None:
    with contextlib.suppress(OSError):  # it is closed already
        connection.socket.shutdown(socket.SHUT_RDWR)


def listen(path: str, group: str = "") -> socket.socket:
    """Return a socket that listens at ``path``, for its owner and a group (name or number; "" for the owner's own).

    A socket that nobody listens at any more is replaced.

    Raises:
        StateConflict: another server listens there, or something else is there.
        SpecError: there is no such group, or the path is too long.
        KernelError: it cannot be made there.
    """
    number = _group(group) if group else -1
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), mode=0o711, exist_ok=True)
        _remove_stale(path)
        before = os.umask(0o777 & ~_MODE)
        try:
            listener.bind(path)
        finally:
            os.umask(before)
        os.chown(path, -1, number)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if not error.errno:
            raise SpecError(f"{path}: {error}", hint="a socket's path has at most 107 bytes") from error
        raise KernelError.of("listen at", path, error) from error
    except BaseException:
        listener.close()
        raise
    return listener


def _group(text: str) -> int:
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise SpecError(f"there is no group {text!r}", hint=f"groupadd {text}") from None


def _remove_stale(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise StateConflict(f"{path} is there already, and is no socket", hint="choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise StateConflict(f"another server listens at {path}", hint="end it first, or choose another --socket")


@contextlib.contextmanager
def stop_signals() -> Iterator[int]:
    """Give a descriptor that becomes readable when this process is asked to end, by SIGTERM or Ctrl-C."""
    reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def stop(_: int, __: FrameType | None) -> None:
        os.write(writing, b"x")

    before = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield reading
    finally:
        for number, action in before.items():
            signal.signal(number, action)
        os.close(reading)
        os.close(writing)
