"""The protocol between the host and the guest's init, and the host's end of it.

A frame is a 9-byte header and a payload: length of the payload (u32), kind (one ASCII letter), id (u32);
all integers are little-endian. One stream each way, over a virtio-serial port.

    host to guest
      S  start: mount, configure, run the main command       settings and a command, see below
      X  execute a command beside it, under a new id         a command
      K  kill the command of that id, and its children       empty
      M  report memory                                       empty
      R  report a file                                       its path
      T  further standard input of the command of that id    bytes, see below
      C  it ends                                             empty
      W  the size of its terminal                            u32 rows, u32 columns
      G  a signal for its first process                      u32 number
      A  so much of its output has been taken                u32 bytes
      Q  stop: SIGTERM to the main command, SIGKILL later    u32 milliseconds to wait in between
    guest to host
      I  init is here                                        empty
      H  the main command has been started                   empty
      O  standard output of the command of that id           bytes
      E  standard error                                      bytes
      D  it ended                                            u32 exit code, u64 nanoseconds it took on the guest's clock
      M  memory, or a file                                   the text of /proc/meminfo; up to 1 MiB, "" if not there
      A  so much of the input of that id has been taken      u32 bytes
      F  a request could not be carried out                  text

A command is: u32 number of settings, u32 of arguments, u32 of environment entries; these strings, each ended by NUL;
the working directory, ended by NUL; standard input up to the end of the payload. Settings come first. S alone uses
``disk=SERIAL:ro|rw:PATH:TYPE`` and ``share=TAG:ro|rw:PATH:TYPE`` (the root first; TYPE is the file system's),
``cover=memory`` (what is written on the root lies in memory; next after the root), ``network=ADDRESS:NETMASK:GATEWAY``,
``hostname=NAME``, ``write=PATH:CONTENT`` (a file of the root). S and X use ``user=UID:GID:GROUP,…``,
``terminal=ROWS:COLUMNS`` (errors come with the output), ``input=open`` (T follows, up to C), ``window=BYTES``.

Nobody may fill the other's memory: of input at most INPUT_WINDOW_BYTES are sent that the guest has not acknowledged,
and of the output of a command with a window at most that much.
The main command is id 1. When it ends the guest sends D and powers off; the exit code is 128+n after signal n.
The other end is ``guest/init.c``; change both.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from lab.errors import DomainError
from lab.units import NS_PER_MS, NS_PER_S

_HEADER = struct.Struct("<IcI")
_COUNTS = struct.Struct("<III")
_END = struct.Struct("<IQ")
_COUNT = struct.Struct("<I")
_SIZE = struct.Struct("<II")
MAIN_ID = 1
INPUT_WINDOW_BYTES = 64 * 1024  # as in guest/init.c
_KILL_GRACE_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestCommand:
    """A program for the guest, complete: nothing is added to ``env``.

    ``user`` is uid, gid and all groups; None is init's own, root. ``terminal`` is rows and columns of a terminal that
    it gets. With ``input_open`` more input comes after ``stdin``. ``window_bytes`` is how much of its output may be
    under way that has not been acknowledged, 0 for any amount.
    """

    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    cwd: str = "/"
    stdin: bytes = b""
    user: tuple[int, int, tuple[int, ...]] | None = None
    terminal: tuple[int, int] | None = None
    input_open: bool = False
    window_bytes: int = 0

    @property
    def settings(self) -> tuple[str, ...]:
        """How it is run, in the protocol's words."""
        found: list[str] = []
        if self.user is not None:
            uid, gid, groups = self.user
            found.append(f"user={uid}:{gid}:{','.join(map(str, groups))}")
        if self.terminal is not None:
            found.append(f"terminal={self.terminal[0]}:{self.terminal[1]}")
        if self.input_open:
            found.append("input=open")
        if self.window_bytes:
            found.append(f"window={self.window_bytes}")
        return tuple(found)


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
    listed = (*settings, *command.settings)
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


def decode_end(payload: bytes) -> tuple[int, int]:
    """Return the exit code and the nanoseconds of a D frame."""
    exit_code, elapsed_ns = _END.unpack(payload)
    return exit_code, elapsed_ns


def encode_count(count: int) -> bytes:
    """Return the payload of A and G."""
    return _COUNT.pack(count)


def decode_count(payload: bytes) -> int:
    """Return the number in the payload of A and G."""
    (count,) = _COUNT.unpack(payload)
    return int(count)


def encode_size(rows: int, columns: int) -> bytes:
    """Return the payload of W."""
    return _SIZE.pack(rows, columns)


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


StreamSink = Callable[[bytes, bytes], None]
"""Gets each frame of a streamed command: its kind (O, E, D or F) and payload; it must not wait for anything."""


class GuestAgent:
    """The host's end: any thread may make requests, one thread feeds what the guest sends."""

    def __init__(self) -> None:
        self._decoder = FrameDecoder()
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._socket: socket.socket | None = None
        self._pending: dict[int, _Pending] = {}
        self._sinks: dict[int, StreamSink] = {}
        self._input_under_way: dict[int, int] = {}
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
            for sink in self._sinks.values():
                sink(b"F", self._lost.encode())
            self._sinks.clear()
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
        elif kind == b"A":
            self._input_under_way[frame_id] = self._input_under_way.get(frame_id, 0) - decode_count(payload)
        elif frame_id in self._sinks:
            sink = self._sinks[frame_id] if kind in b"OE" else self._sinks.pop(frame_id)
            sink(kind, payload)
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

    def stream(self, command: GuestCommand, sink: StreamSink, *, deadline_ns: int) -> int:
        """Start a command beside the main one whose output goes to ``sink`` as it comes, and return its id.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: it did not take the request by ``deadline_ns``.
        """
        with self._changed:
            frame_id, self._next_id = self._next_id, self._next_id + 1
            self._sinks[frame_id] = sink
        self._send(encode_frame(b"X", frame_id, encode_command(command)), deadline_ns)
        return frame_id

    def is_running(self, frame_id: int) -> bool:
        """Return whether the main command, or a streamed one, has not ended."""
        return not self._lost and (self.main_exit_code is None if frame_id == MAIN_ID else frame_id in self._sinks)

    def send_input(self, frame_id: int, data: bytes) -> None:
        """Give a command with open input more of it, as fast as it takes it; what comes after its end is dropped.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: the guest does not take requests.
        """
        for start in range(0, len(data), INPUT_WINDOW_BYTES):
            part = data[start : start + INPUT_WINDOW_BYTES]
            if not self._take_room(frame_id, len(part)):
                return
            self._tell(b"T", frame_id, part)

    def _take_room(self, frame_id: int, length: int) -> bool:
        """Wait until so much input may be sent; False when the command has ended before."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    not self.is_running(frame_id)
                    or self._input_under_way.get(frame_id, 0) + length <= INPUT_WINDOW_BYTES
                )
            )
            if not self.is_running(frame_id):
                return False
            self._input_under_way[frame_id] = self._input_under_way.get(frame_id, 0) + length
            return True

    def end_input(self, frame_id: int) -> None:
        """Say that no more input comes.

        Raises:
            DomainError, TimeoutError: as ``send_input``.
        """
        self._tell(b"C", frame_id)

    def resize(self, frame_id: int, rows: int, columns: int) -> None:
        """Tell the terminal of a command its size.

        Raises:
            DomainError, TimeoutError: as ``send_input``.
        """
        self._tell(b"W", frame_id, encode_size(rows, columns))

    def signal(self, frame_id: int, number: int) -> None:
        """Send a signal to the first process of a command.

        Raises:
            DomainError, TimeoutError: as ``send_input``.
        """
        self._tell(b"G", frame_id, encode_count(number))

    def acknowledge(self, frame_id: int, length: int) -> None:
        """Say that so many bytes of a streamed command's output have been taken.

        Raises:
            DomainError, TimeoutError: as ``send_input``.
        """
        self._tell(b"A", frame_id, encode_count(length))

    def kill(self, frame_id: int) -> None:
        """Kill a command beside the main one, with its whole session.

        Raises:
            DomainError, TimeoutError: as ``send_input``.
        """
        self._tell(b"K", frame_id)

    def _tell(self, kind: bytes, frame_id: int, payload: bytes = b"") -> None:
        self._send(encode_frame(kind, frame_id, payload), time.monotonic_ns() + _KILL_GRACE_NS)

    def read_file(self, path: str, *, timeout_ns: int) -> bytes:
        """Return a file of the guest as it is now, up to 1 MiB of it; b"" for one that is not there.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: no answer within ``timeout_ns``.
        """
        return self._ask(b"R", path.encode(), f"report {path}", timeout_ns)

    def memory_bytes(self, *, timeout_ns: int) -> dict[str, int]:
        """Return the guest's own view of its memory: /proc/meminfo, in bytes.

        Raises:
            DomainError: the guest is gone.
            TimeoutError: no answer within ``timeout_ns``.
        """
        return parse_meminfo(self._ask(b"M", b"", "report its memory", timeout_ns).decode())

    def _ask(self, kind: bytes, payload: bytes, what: str, timeout_ns: int) -> bytes:
        deadline_ns = time.monotonic_ns() + timeout_ns
        frame_id, pending = self._register()
        try:
            self._send(encode_frame(kind, frame_id, payload), deadline_ns)
            if not self._wait(pending, deadline_ns):
                raise TimeoutError(f"the guest did not {what} within {timeout_ns / NS_PER_S:g} s")
        finally:
            self._pending.pop(frame_id, None)
        if pending.reply is None:
            raise DomainError(f"the guest cannot {what}: {pending.failure or self._lost}")
        return pending.reply

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
