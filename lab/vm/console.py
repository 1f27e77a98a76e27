"""The guest's byte streams on the host: console, marker, main output, agent; one thread that reads them all.

We listen and QEMU connects, so there is no race and no polling. Whatever must be stamped is stamped in this thread as
soon as the kernel says that bytes are there, before they are looked at.
"""

from __future__ import annotations

import os
import selectors
import socket
import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum

from lab.errors import SpecError
from lab.units import NS_PER_S
from lab.vm.domain_spec import ChannelName
from lab.vm.guest_agent import GuestAgent

_MAX_SOCKET_PATH = 107  # sun_path without its NUL. Source: man unix(7)
_READ_BYTES = 65536
_KEPT_BYTES = 65536
_MARK_BYTES = 9
Sink = Callable[[bytes], None]
_KEPT = (ChannelName.CONSOLE, ChannelName.OUTPUT, ChannelName.ERROR)


class Instant(StrEnum):
    """What this thread stamps, on the host's CLOCK_MONOTONIC."""

    CONNECTED = "connected"  # QEMU runs and sets up its devices
    USERSPACE = "userspace"  # the first byte of the guest's init
    OUTPUT = "output"  # the first byte of the main command


class Tail:
    """The last bytes of a stream."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, data: bytes) -> None:
        """Append, and forget what is too old."""
        self._bytes += data
        del self._bytes[:-_KEPT_BYTES]

    def content(self) -> bytes:
        """Return what is kept."""
        return bytes(self._bytes)

    def lines(self, count: int) -> tuple[str, ...]:
        """Return the last ``count`` lines that are not empty."""
        text = self._bytes.decode(errors="replace")
        return tuple([line.rstrip() for line in text.splitlines() if line.strip()][-count:])


class GuestChannels:
    """Sockets of one guest in one directory, from ``open`` to ``close``.

    ``stamps`` has the instants that have happened; ``kernel_age_ns`` how long the guest's
    kernel had run at USERSPACE, on its own clock, known soon after the main command's start. A channel's sink gets all
    bytes of the console, the output or the errors as they come; the thread that reads them waits for it.
    """

    def __init__(self, directory: str, agent: GuestAgent, sinks: Mapping[ChannelName, Sink] | None = None) -> None:
        self._directory = directory
        self._agent = agent
        self._sinks = sinks or {}
        self._changed = threading.Condition()
        self._selector = selectors.DefaultSelector()
        self._wake = -1
        self._thread: threading.Thread | None = None
        self._mark = bytearray()
        self._lost = ""
        self._connected: set[ChannelName] = set()
        self._open_channels = 0
        self._tails = {name: Tail() for name in _KEPT}
        self.stamps: dict[Instant, int] = {}
        self.kernel_age_ns: int | None = None

    @property
    def paths(self) -> Mapping[ChannelName, str]:
        """Where each channel's socket lies."""
        return {name: os.path.join(self._directory, f"{name}.sock") for name in ChannelName}

    def open(self) -> None:
        """Listen on every socket and start reading.

        Raises:
            SpecError: the directory's name is too long for a socket.
            OSError: a socket cannot be made.
        """
        check_socket_directory(self._directory)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ, None)
        for name, path in self.paths.items():
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            listener.bind(path)
            listener.listen(1)
            self._selector.register(listener, selectors.EVENT_READ, (name, True))
        self._thread = threading.Thread(target=self._read, name="guest-channels", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop reading, close and remove the sockets; safe to call twice."""
        if self._thread is None:
            return
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._thread = None
        for key in list(self._selector.get_map().values()):
            self._close(key.fileobj)
        self._selector.close()
        for path in self.paths.values():
            if os.path.lexists(path):
                os.unlink(path)

    def lose(self, reason: str) -> None:
        """Wake everyone who waits: the guest is gone."""
        with self._changed:
            self._lost = self._lost or reason
            self._changed.notify_all()
        self._agent.lose(reason)

    @property
    def lost(self) -> str:
        """Why the guest is gone; "" while it is not."""
        return self._lost

    def wait(self, happened: Callable[[], bool], *, deadline_ns: int) -> bool:
        """Wait until ``happened()`` or the guest is lost; return whether it happened by ``deadline_ns``."""
        with self._changed:
            self._changed.wait_for(
                lambda: happened() or bool(self._lost), max(0, deadline_ns - time.monotonic_ns()) / NS_PER_S
            )
        return happened()

    def drained(self) -> bool:
        """Return whether every channel has been read to its end."""
        return self._open_channels == 0

    def agent_connected(self) -> bool:
        """Return whether QEMU has opened the agent's channel."""
        return ChannelName.AGENT in self._connected

    def tail(self, name: ChannelName) -> Tail:
        """Return the last bytes of the console, the output or the error channel."""
        return self._tails[name]

    def _read(self) -> None:
        while True:
            events = self._selector.select()
            now_ns = time.monotonic_ns()
            for key, _ in events:
                if key.data is None:
                    return
                name, listening = key.data
                if listening:
                    self._accept(key.fileobj, name, now_ns)  # type: ignore[arg-type]  # selectors knows ints and objects
                else:
                    self._receive(key.fileobj, name, now_ns)  # type: ignore[arg-type]  # see above
            with self._changed:
                self._changed.notify_all()

    def _accept(self, listener: socket.socket, name: ChannelName, now_ns: int) -> None:
        connection, _ = listener.accept()
        self.stamps.setdefault(Instant.CONNECTED, now_ns)
        self._close(listener)
        self._selector.register(connection, selectors.EVENT_READ, (name, False))
        if name is ChannelName.AGENT:
            self._agent.connect(connection)
        self._connected.add(name)
        self._open_channels += 1

    def _receive(self, connection: socket.socket, name: ChannelName, now_ns: int) -> None:
        try:
            data = connection.recv(_READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self._close(connection)
            self._open_channels -= 1
        elif name is ChannelName.AGENT:
            self._agent.feed(data)
        elif name is ChannelName.MARKER:
            self._take_mark(data, now_ns)
        else:
            if name is ChannelName.OUTPUT:
                self.stamps.setdefault(Instant.OUTPUT, now_ns)
            self._tails[name].add(data)
            if name in self._sinks:
                self._sinks[name](data)

    def _take_mark(self, data: bytes, now_ns: int) -> None:
        self.stamps.setdefault(Instant.USERSPACE, now_ns)
        self._mark += data
        if self.kernel_age_ns is None and len(self._mark) >= _MARK_BYTES:
            self.kernel_age_ns = int.from_bytes(self._mark[1:_MARK_BYTES], "little")

    def _close(self, file: object) -> None:
        self._selector.unregister(file)  # type: ignore[arg-type]  # as it was registered
        if isinstance(file, socket.socket):
            file.close()
        else:
            os.close(self._wake)


def check_socket_directory(directory: str) -> None:
    """Raise unless every channel's socket has a name that the kernel takes.

    Raises:
        SpecError: ``directory`` is too long.
    """
    longest = max(len(os.fsencode(os.path.join(directory, f"{name}.sock"))) for name in ChannelName)
    if longest > _MAX_SOCKET_PATH:
        raise SpecError(
            f"{directory} is {longest - _MAX_SOCKET_PATH} characters too long for the guest's sockets",
            hint="choose a shorter LAB_ROOT, or --root",
        )
