"""The machine that carries assembled programs out: ``machine.c``, compiled by the host's compiler at first use.

Where there is no compiler the same steps are carried out in Python: a container starts later, and in the same way.
"""

from __future__ import annotations

import os

from lab.linux import libc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Start = Callable[[bytes, int, int, tuple[int, ...], int], tuple[int, int]]

_PROTOTYPES = {"start": "isqiiiiip"}


def load(path: str) -> Start:
    """Return the function that clones a child and has it carry a program out.

    It takes the program, the flags of clone3, an open v2 cgroup to be born in or -1, the three streams and the status
    pipe, and returns pid and pidfd.

    Raises:
        OSError: the library cannot be loaded; or, of what is returned, the kernel clones no child.
    """
    start = libc.load_library(path, _PROTOTYPES)["start"]
    pidfd = bytearray(4)
    place = libc.address_of(pidfd)

    def clone(program: bytes, flags: int, cgroup: int, streams: tuple[int, ...], status: int) -> tuple[int, int]:
        pid = start(program, flags, cgroup, *streams, status, place)
        if pid < 0:
            raise OSError(-pid, f"clone3: {os.strerror(-pid)}")
        return pid, int.from_bytes(pidfd, "little")

    return clone
