"""The host's end of the testbed's ports: one command at a time on each, with its streams apart.

The frames are those of ``lab/vm/guest_agent.py``; what is added to them is told in ``inside/agent.py``, the other end.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.errors import DomainError, UnavailableError
from lab.testbed.machine import PORTS, port_path
from lab.units import NS_PER_S
from lab.vm.guest_agent import FrameDecoder, GuestCommand, encode_command, encode_frame

_GREETING = bytes.fromhex("a7d2c4910e6bf35884c1b9e02f7d165a")
_GREETING_NS = 120 * NS_PER_S
_CHUNK = 65536
_END = struct.Struct("<IQ")
_MAIN = 0

Take = Callable[[bytes], object]
"""Called with bytes of a stream as they come."""


class Channel:
    """A connected port."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._decoder = FrameDecoder()
        self._early = b""
        self._unsent = bytearray()

    def greet(self, *, answering: bool = False, deadline_ns: int | None = None) -> None:
        """Begin anew on both sides: leave behind whatever a killed predecessor did not read.

        With ``answering`` the other end speaks first, and once.

        Raises:
            DomainError: the machine has ended.
            TimeoutError: it does not answer.
        """
        limit_ns = time.monotonic_ns() + _GREETING_NS if deadline_ns is None else deadline_ns
        if not answering:
            self._socket.sendall(_GREETING)
        received = bytearray()
        while _GREETING not in received:
            remaining_s = (limit_ns - time.monotonic_ns()) / NS_PER_S
            if remaining_s <= 0 or not select.select((self._socket,), (), (), remaining_s)[0]:
                raise TimeoutError("the testbed's machine does not answer")
            received += self._read()
        self._early = bytes(received.rpartition(_GREETING)[2])

    def run(self, command: GuestCommand, *, stdin: int | None, out: Take, err: Take) -> int:
        """Run a command to its end, passing on ``stdin`` (a descriptor; None for none), and return its exit code.

        Raises:
            DomainError: it could not be started, or the machine has ended.
        """
        request = encode_frame(b"X", _MAIN, encode_command(command))
        self._unsent += request if stdin is not None else request + encode_frame(b"W", _MAIN)
        return self.follow(command.argv[0], stdin=stdin, out=out, err=err)[0]

    def follow(self, program: str, *, stdin: int | None, out: Take, err: Take) -> tuple[int, int]:
        """Pass on both ways until the end; return the exit code, and the nanoseconds it took on the machine's clock.

        Raises:
            DomainError: as ``run``.
        """
        takers = {b"O": out, b"E": err}
        while True:
            received, self._early = self._early, b""
            for kind, _, payload in self._decoder.feed(received):
                if kind == b"D":
                    exit_code, elapsed_ns = _END.unpack(payload)
                    return exit_code, elapsed_ns
                if kind == b"F":
                    raise DomainError(f"cannot run {program} in the testbed: {payload.decode(errors='replace')}")
                takers[kind](payload)
            stdin = self._pass_on(stdin)

    def _pass_on(self, stdin: int | None) -> int | None:
        """Wait for one of both ways, and carry what it has; return ``stdin``, or None after its end.

        Neither way waits for the other: a program may write before it has read all that there is for it.
        """
        # more of it is read only when what was read before has gone
        sources: tuple[socket.socket | int, ...] = (
            (self._socket, stdin) if stdin is not None and not self._unsent else (self._socket,)
        )
        readable, writable, _ = select.select(sources, (self._socket,) if self._unsent else (), ())
        if stdin is not None and stdin in readable:
            data = os.read(stdin, _CHUNK)
            self._unsent += encode_frame(b"W", _MAIN, data)
            stdin = stdin if data else None
        if writable:
            del self._unsent[: self._socket.send(self._unsent, socket.MSG_DONTWAIT)]
        if self._socket in readable:
            self._early = self._read()
        return stdin

    def _read(self) -> bytes:
        data = self._socket.recv(_CHUNK)
        if not data:
            raise DomainError("the testbed's machine has ended")
        return data


@contextmanager
def connected(path: str) -> Iterator[Channel]:
    """Connect to a port's socket; whoever leaves the block ends the command that still runs on it.

    Raises:
        DomainError: nobody listens there.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
        except OSError as error:
            raise DomainError(f"cannot reach the testbed's machine at {path}: {error.strerror}") from error
        yield Channel(connection)


@contextmanager
def free_port(directory: str) -> Iterator[Channel]:
    """Connect to a port of the machine in ``directory`` that nobody else has.

    Raises:
        UnavailableError: all are taken.
        DomainError, TimeoutError: the machine does not answer.
    """
    for number in range(PORTS):
        descriptor = os.open(
            os.path.join(directory, f"port-{number}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        try:
            with connected(port_path(directory, number)) as channel:
                channel.greet()
                yield channel
        finally:
            os.close(descriptor)
        return
    raise UnavailableError(f"the testbed carries out {PORTS} commands already", hint="wait until one of them has ended")
