"""A container's terminal, kept open by a small process of its own, so that it outlives a supervisor that is killed.

    containers/<id>/terminal    that process: its pid, and when it was started in clock ticks since boot

The process is ``terminal_keeper.c``. It ends with the container. This file is imported by the spawner, for containers
with a terminal: nothing heavy here.
"""

from __future__ import annotations

import os

from lab.container import supervision
from lab.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container.loop import Loop

TERMINAL_FILE = "terminal"
_PROCESS_NUMBER, _MASTER_NUMBER = 0, 1


def keep(loop: Loop, program: str, bundle: str, process: int, master: int) -> None:
    """Have ``program`` keep a terminal's master open until the process of a pidfd has ended; both stay the caller's.

    Raises:
        OSError: that cannot be had now.
    """
    actions = [(os.POSIX_SPAWN_DUP2, process, _PROCESS_NUMBER), (os.POSIX_SPAWN_DUP2, master, _MASTER_NUMBER)]
    pid = os.posix_spawn(program, (program,), {}, file_actions=actions, setsid=True)
    descriptor = os.pidfd_open(pid)

    def reap(_: int) -> None:
        os.waitid(os.P_PIDFD, descriptor, os.WEXITED)
        loop.forget(descriptor)
        os.close(descriptor)

    loop.watch(descriptor, reap)
    supervision.write_bytes(os.path.join(bundle, TERMINAL_FILE), f"{pid} {pidfd.start_time_ticks(pid)}".encode())


def recover(bundle: str) -> int | None:
    """Return the master that is kept of a container's terminal, the caller's from here; None if nobody keeps it.

    Raises:
        OSError: there is no descriptor left for it now.
    """
    text = supervision.read_text(os.path.join(bundle, TERMINAL_FILE))
    if not text:
        return None
    pid, started_ticks = map(int, text.split())
    try:
        keeper = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        if pidfd.start_time_ticks(pid) != started_ticks:
            return None
        return pidfd.pidfd_getfd(keeper, _MASTER_NUMBER)
    except (ProcessLookupError, PermissionError):  # it has just ended; we may not
        return None
    finally:
        os.close(keeper)
