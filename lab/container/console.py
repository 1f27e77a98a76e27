"""The engine's side of a container's terminal: how its master comes out of the container.

Who starts a process with ``terminal`` makes a pair of sockets and gives one end as all three standard streams of the
start or exec (``Pair.stdio``). Init makes a pseudo-terminal in the container's own devpts, sends one message over that
socket, the byte ``MESSAGE`` with the master as its only descriptor, and puts the slave in the place of the streams
before it executes the program. When the start has returned, ``Pair.receive`` has the master: what is written to it is
typed, what is read from it is shown, and a read fails with EIO once nobody in the container has the slave open.
``lab.linux.pty.set_size`` on it resizes the terminal. Nothing else is ever sent over the socket.
"""

from __future__ import annotations

from types import TracebackType

from lab.container.init_calls import CONSOLE_MESSAGE as MESSAGE
from lab.container.spawner_client import Stdio
from lab.errors import ContainerError
from lab.linux import sockets


class Pair:
    """The pair of sockets over which one terminal is handed over; to be closed, or used in a ``with`` block."""

    def __init__(self) -> None:
        """Make the pair."""
        self._ours, self._theirs = sockets.pair(sockets.SOCK_SEQPACKET)

    def __enter__(self) -> Pair:
        """Return the pair itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    @property
    def stdio(self) -> Stdio:
        """The streams for the start of a process with a terminal."""
        number = self._theirs.fileno()
        return Stdio(stdin=number, stdout=number, stderr=number)

    @property
    def receiver(self) -> int:
        """The end over which the master comes, for another process that is to have it in our place."""
        return self._ours.fileno()

    def receive(self) -> int:
        """Return the terminal's master, closed on exec and the caller's from here; once the start has returned.

        Raises:
            ContainerError: the process was started without a terminal.
        """
        self._theirs.close()  # without this the end of a process that sends nothing would not be seen
        message, descriptors = sockets.receive_descriptors(self._ours, len(MESSAGE), 1)
        if message != MESSAGE or not descriptors:
            raise ContainerError("the process that was started has no terminal to hand over")
        return descriptors[0]

    def close(self) -> None:
        """Close both ends; safe to call twice."""
        self._ours.close()
        self._theirs.close()
