"""The steps between clone and exec that take more than system calls, and all steps by name.

They run in Python, in the child of a one-threaded process that has imported little more than ctypes: no logging, no
threads, no engine. A step that fails raises ``OSError`` with errno and the path; ``init.py`` reports which step that
was. What system calls alone can do is in ``init_calls.py``; a step here may return such a program, to be carried out.
"""

from __future__ import annotations

import os

from lab.container import init_calls as calls
from lab.container import user_namespace
from lab.linux import mount, namespaces, pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.container.program import Program


def join_namespace(pid: int, started_ticks: int, name: str, flag: int) -> None:
    """Enter a namespace of a running process of the host, by the name that it has in /proc/PID/ns.

    Raises:
        ProcessLookupError: the process that has this identity has ended.
    """
    descriptor = pidfd.open_namespace(pid, started_ticks, name)
    namespaces.setns(descriptor, flag, path=f"/proc/{pid}/ns/{name}")
    os.close(descriptor)


def open_bind_of(number: int, pid: int, started_ticks: int, source: str) -> None:
    """Clone the mount at a path that a running process of the host sees into descriptor ``number``.

    Raises:
        ProcessLookupError: the process that has this identity has ended.
    """
    own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    join_namespace(pid, started_ticks, "mnt", namespaces.CLONE_NEWNS)
    try:
        flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC
        cloned = mount.open_tree(mount.AT_FDCWD, source, flags)
        os.dup2(cloned, number, inheritable=False)
        os.close(cloned)
    finally:
        namespaces.setns(own, namespaces.CLONE_NEWNS, path="/proc/self/ns/mnt")
        os.close(own)


_ALL: tuple[Callable[..., Program | None], ...] = (
    join_namespace,
    open_bind_of,
    *user_namespace.STEPS,
)
OPERATIONS: dict[str, Callable[..., Program | None]] = {
    **calls.PROGRAMS,
    **{function.__name__: function for function in _ALL},
}
"""Every step by its name; a plan can hold nothing else."""
