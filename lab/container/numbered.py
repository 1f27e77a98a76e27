"""The descriptors that a plan finds under numbers of its own, in the spawner and for the time of one clone."""

from __future__ import annotations

import os

from lab.container import init
from lab.linux import sockets


class Numbered:
    """Descriptors under the numbers that a plan knows, for the time of one clone."""

    def __init__(self) -> None:
        """Hold none yet."""
        self._open: list[int] = []

    @staticmethod
    def reserve() -> None:
        """Take all of them, so that nothing else that is opened gets such a number, to be lost at the next clone."""
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number in range(init.STATUS_NUMBER, init.LAST_NUMBER + 1):
            os.dup2(null, number, inheritable=False)
        os.close(null)

    def put(self, descriptor: int, number: int) -> None:
        """Have a copy of a descriptor under a number."""
        os.dup2(descriptor, number, inheritable=False)
        self._open.append(number)

    def pipe(self, number: int) -> int:
        """Have the reading end of a new pipe under a number, and return the writing end."""
        read_end, write_end = os.pipe()
        self.put(read_end, number)
        os.close(read_end)
        return write_end

    def channel(self, number: int) -> sockets.Socket:
        """Have one end of a new pair of sockets under a number, and return the other."""
        ours, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        with theirs:
            self.put(theirs.fileno(), number)
        return ours

    def close(self) -> None:
        """Let them go; their numbers stay reserved."""
        for number in self._open:
            os.dup2(init.STATUS_NUMBER, number, inheritable=False)  # which is still what ``reserve`` has put there
