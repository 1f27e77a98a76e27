"""A process aside for work that forks: it has no threads, and no descriptors of clients that a fork could keep open.

It is made before the server has threads, waits for requests over a pair of sockets, and has each carried out by a child
that gets the descriptors of that request alone. It ends when the server does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from typing import NoReturn

from lab import errors
from lab.api import refusals
from lab.container import inside
from lab.errors import ContainerError, LabError

Work = Callable[[Mapping[str, str], tuple[int, ...]], object]
"""What is done: texts by name and descriptors in, what JSON can hold out."""

_MESSAGE_BYTES, _DESCRIPTORS_MAX = 1 << 16, 4
_ERRORS: Mapping[str, type[LabError]] = {
    kind.__name__: kind
    for kind in (
        inside.FileError, refusals.NoSuchPath, errors.NoSuchContainer, errors.StateConflict, errors.SpecError,
        errors.LayerCorrupt,
    )
}  # fmt: skip


class Aside:
    """The process, as the server sees it."""

    def __init__(self, works: Mapping[str, Work]) -> None:
        """Make it; this process has no threads yet."""
        self._works = works
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._channel.close()
            _serve(theirs, works)
        theirs.close()

    def close(self) -> None:
        """Let it end, and wait until it has."""
        self._channel.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def begin(self, name: str, arguments: Mapping[str, str], *descriptors: int) -> Pending:
        """Have some work begun; the descriptors stay the caller's.

        Raises:
            ContainerError: the process has ended.
        """
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            message = json.dumps([name, dict(arguments)]).encode()
            socket.send_fds(self._channel, [message], [writing, *descriptors])
        except OSError as error:
            os.close(reading)
            raise ContainerError(f"the process for work on files has ended: {error}", hint="lab serve") from error
        finally:
            os.close(writing)
        return Pending(reading)

    def call(self, name: str, arguments: Mapping[str, str], *descriptors: int) -> object:
        """Have some work done, and return what came out.

        Raises:
            LabError: what it raised.
        """
        with self.begin(name, arguments, *descriptors) as pending:
            return pending.result()


class Pending:
    """Work that has been begun; to be used in a ``with`` block."""

    def __init__(self, report: int) -> None:
        """Take the reading end of its report over."""
        self._report = open(report, "rb")  # noqa: SIM115 - closed when the block ends

    def __enter__(self) -> Pending:
        """Return the work itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Ask no more for what came out."""
        self._report.close()

    def result(self) -> object:
        """Wait for its end, and return what came out.

        Raises:
            LabError: what it raised.
        """
        text = self._report.read()
        if not text:
            raise ContainerError("the work on the container's files has been killed")
        kind, value = json.loads(text)
        if kind:
            raise _ERRORS.get(kind, ContainerError)(str(value))
        return value


def _serve(channel: socket.socket, works: Mapping[str, Work]) -> NoReturn:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the server's to understand
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    os.closerange(channel.fileno() + 1, 1 << 12)
    while True:
        try:
            message, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, _DESCRIPTORS_MAX)
        except OSError:
            os._exit(1)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            channel.close()
            _carry_out(works, message, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _carry_out(works: Mapping[str, Work], message: bytes, descriptors: list[int]) -> NoReturn:
    report, *given = descriptors
    code = 1
    try:
        name, arguments = json.loads(message)
        outcome = _outcome(works[name], arguments, tuple(given))
        for descriptor in given:  # whoever reads them is to see their end before that of the report
            with contextlib.suppress(OSError):
                os.close(descriptor)
        with os.fdopen(report, "wb") as target:
            target.write(json.dumps(outcome).encode())
        code = 0
    finally:
        os._exit(code)


def _outcome(work: Work, arguments: Mapping[str, str], given: tuple[int, ...]) -> tuple[str, object]:
    try:
        return "", work(arguments, given)
    except LabError as error:
        return type(error).__name__, str(error)
    except OSError as error:
        return ContainerError.__name__, str(error)
