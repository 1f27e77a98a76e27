"""The protocol between the host and the guest's init, and the host's end of it.

A frame is a 9-byte header and a payload: length of the payload (u32), kind (one ASCII letter), id (u32);
all integers are little-endian. One stream each way, over a virtio-serial port.

    host to guest
      S  start: mount, configure, run the main command       settings and a command, see below
      X  execute a command beside it, under a new id         a command
      K  kill the command of that id, and its children       empty
      M  report memory                                       empty
      Q  stop: SIGTERM to the main command, SIGKILL later    u32 milliseconds to wait in between
    guest to host
      I  init is here                                        empty
      H  the main command has been started                   empty
      O  standard output of the command of that id           bytes
      E  standard error                                      bytes
      D  it ended                                            u32 exit code, u64 nanoseconds it took on the guest's clock
      M  memory                                              the text of /proc/meminfo
      F  a request could not be carried out                  text

A command is: u32 number of settings, u32 of arguments, u32 of environment entries; these strings, each ended by NUL;
the working directory, ended by NUL; standard input up to the end of the payload. Settings come first and are used by
S only: ``disk=SERIAL:ro|rw:PATH:TYPE`` and ``share=TAG:ro|rw:PATH:TYPE`` (the root first; TYPE is the file system's),
``cover=memory`` (what is written on the root lies in memory; next after the root), ``network=ADDRESS:NETMASK:GATEWAY``,
``hostname=NAME``.
The main command is id 1. When it ends the guest sends D and powers off; the exit code is 128+n after signal n.
The other end is ``guest/init.c``; change both.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.errors import DomainError
from lab.units import NS_PER_MS, NS_PER_S

_HEADER = struct.Struct("<IcI")
_COUNTS = struct.Struct("<III")
_END = struct.Struct("<IQ")
MAIN_ID = 1
_KILL_GRACE_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCommand:
    """A program for the guest, complete: nothing is added to ``env``."""

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    stdin: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestExecution:
    """What a command in the guest left behind; ``elapsed_ns`` is a difference on the guest's monotonic clock."""

    exit_code: int
    stdout: bytes
    stderr: bytes
    elapsed_ns: int


def encode_frame(kind: bytes, frame_id: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return _HEADER.pack(len(payload), kind, frame_id) + payload


def encode_command(command: GuestCommand, settings: Iterable[str] = ()) -> bytes:
    """Return the payload of S or X.

    Raises:
        ValueError: a string has a NUL in it, or there is no argument.
    """
    if not command.argv:
        raise ValueError("a command needs at least one argument")
    listed = tuple(settings)
    env = tuple(f"{name}={value}" for name, value in command.env)
    strings = [text.encode() for text in (*listed, *command.argv, *env, command.cwd)]
    if any(b"\0" in text for text in strings):
        raise ValueError("a command's strings cannot contain NUL")
    counts = _COUNTS.pack(len(listed), len(command.argv), len(env))
    return counts + b"".join(text + b"\0" for text in strings) + command.stdin


class FrameDecoder:
    """Cuts a byte stream into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[bytes, int, bytes]]:
        """Add bytes and yield the kind, id and payload of each frame that they complete."""
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            length, kind, frame_id = _HEADER.unpack_from(self._buffer)
            end = _HEADER.size + length
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield kind, frame_id, payload


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the lines of /proc/meminfo in bytes; counts without a unit stay counts."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words:
            values[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return values


@dataclass(slots=True)
class _Pending:
    """What has come so far for one request."""

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    end: tuple[int, int] | None = None
    reply: bytes | None = None
    failure: str = ""

    @property
    def settled(self) -> bool:
        return self.end is not None or self.reply is not None or bool(self.failure)


class GuestAgent:
    """The host's end: any thread may make requests, one thread feeds what the guest sends."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._socket: socket.socket | None = None
        self._pending: dict[int, _Pending] = {}
        self._next_id = MAIN_ID + 1
        self._lost = ""
        self.main_exit_code: int | None = None
        self.main_started = False

    def connect(self, connection: socket.socket) -> None:
        """Use this socket for requests from now on; it is not closed here."""
        self._socket = connection

    def lose(self, reason: str) -> None:
        """Make every waiting and coming request fail with ``reason``: the guest is gone."""
        with self._changed:
            self._lost = self._lost or reason
            self._changed.notify_all()

    def feed(self, data: bytes) -> None:
        """Take what the guest sent."""
        with self._changed:
            for kind, frame_id, payload in self._decoder.feed(data):
                self._take(kind, frame_id, payload)
            self._changed.notify_all()

    def _take(self, kind: bytes, frame_id: int, payload: bytes) -> None:
        if kind == b"H":
            self.main_started = True
        elif kind == b"D" and frame_id == MAIN_ID:
            self.main_exit_code = _END.unpack(payload)[0]
        elif frame_id in self._pending:
            _settle(self._pending[frame_id], kind, payload)

    def start(self, command: GuestCommand, settings: Iterable[str], *, deadline_ns: int) -> None:
        """Ask init to set up and run the main command; what comes of it arrives later.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: it did not take the request by ``deadline_ns`` (CLOCK_MONOTONIC).
        """
        self._send(encode_frame(b"S", MAIN_ID, encode_command(command, settings)), deadline_ns)

    def execute(self, command: GuestCommand, *, timeout_ns: int) -> GuestExecution:
        """Run a command beside the main one and wait for its end.

        Raises:
            DomainError: the guest is gone, or refused.
            TimeoutError: it did not end within ``timeout_ns``; it has been killed.
        """
        deadline_ns = time.monotonic_ns() + timeout_ns
        frame_id, pending = self._register()
        try:
            self._send(encode_frame(b"X", frame_id, encode_command(command)), deadline_ns)
            if not self._wait(pending, deadline_ns):
                self._kill(frame_id, pending)
                raise TimeoutError(f"{command.argv[0]} did not end within {timeout_ns / NS_PER_S:g} s")
        finally:
            self._pending.pop(frame_id, None)
        if pending.end is None:
            raise DomainError(f"cannot run {command.argv[0]} in the guest: {pending.failure or self._lost}")
        exit_code, elapsed_ns = pending.end
        return GuestExecution(
            exit_code=exit_code, stdout=bytes(pending.stdout), stderr=bytes(pending.stderr), elapsed_ns=elapsed_ns
        )

    def memory_bytes(self, *, timeout_ns: int) -> dict[str, int]:
        """Return the guest's own view of its memory: /proc/meminfo, in bytes.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: no answer within ``timeout_ns``.
        """
        deadline_ns = time.monotonic_ns() + timeout_ns
        frame_id, pending = self._register()
        try:
            self._send(encode_frame(b"M", frame_id), deadline_ns)
            if not self._wait(pending, deadline_ns):
                raise TimeoutError(f"the guest did not report its memory within {timeout_ns / NS_PER_S:g} s")
        finally:
            self._pending.pop(frame_id, None)
        if pending.reply is None:
            raise DomainError(f"cannot read the guest's memory: {pending.failure or self._lost}")
        return parse_meminfo(pending.reply.decode())

    def request_stop(self, *, grace_ns: int, deadline_ns: int) -> None:
        """Ask init to end the main command and power off; whether it did is seen by the VMM's end.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: it does not take requests any more.
        """
        self._send(encode_frame(b"Q", 0, struct.pack("<I", grace_ns // NS_PER_MS)), deadline_ns)

    def _register(self) -> tuple[int, _Pending]:
        with self._changed:
            frame_id, self._next_id = self._next_id, self._next_id + 1
            pending = self._pending[frame_id] = _Pending()
        return frame_id, pending

    def _wait(self, pending: _Pending, deadline_ns: int) -> bool:
        """Wait until the request is settled or the guest is lost; False when ``deadline_ns`` came first."""
        with self._changed:
            return self._changed.wait_for(
                lambda: pending.settled or bool(self._lost), max(0, deadline_ns - time.monotonic_ns()) / NS_PER_S
            )

    def _kill(self, frame_id: int, pending: _Pending) -> None:
        deadline_ns = time.monotonic_ns() + _KILL_GRACE_NS
        self._send(encode_frame(b"K", frame_id), deadline_ns)
        self._wait(pending, deadline_ns)

    def _send(self, frame: bytes, deadline_ns: int) -> None:
        if self._socket is None or self._lost:
            raise DomainError(f"cannot reach the guest: {self._lost or 'not connected'}")
        with self._sending:
            try:
                _send_all(self._socket, frame, deadline_ns)
            except (BrokenPipeError, ConnectionResetError, OSError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise DomainError(f"cannot reach the guest: {self._lost or error}") from error


def _settle(pending: _Pending, kind: bytes, payload: bytes) -> None:
    if kind == b"O":
        pending.stdout += payload
    elif kind == b"E":
        pending.stderr += payload
    elif kind == b"D":
        pending.end = _END.unpack(payload)
    elif kind == b"M":
        pending.reply = payload
    elif kind == b"F":
        pending.failure = payload.decode(errors="replace")


def _send_all(connection: socket.socket, data: bytes, deadline_ns: int) -> None:
    """Send everything; the socket's buffer is finite, and a guest that hangs never empties it."""
    view = memoryview(data)
    writable = select.poll()
    writable.register(connection, select.POLLOUT)
    while view:
        remaining_ns = deadline_ns - time.monotonic_ns()
        if remaining_ns <= 0 or not writable.poll(remaining_ns / NS_PER_MS):
            raise TimeoutError("the guest does not take requests")
        try:
            view = view[connection.send(view, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            continue
