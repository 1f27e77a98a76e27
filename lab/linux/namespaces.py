"""Namespaces: clone3(2), unshare(2), setns(2)."""

from __future__ import annotations

import struct

from lab.linux import libc
from lab.linux.libc import address_of, syscall

CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

_SIGCHLD = 17


def clone3(flags: int, cgroup_fd: int) -> tuple[int, int]:
    """Make a child process; return its pid and its pidfd, or (0, -1) in the child.

    ``cgroup_fd`` is an open v2 cgroup directory when ``flags`` has CLONE_INTO_CGROUP. Python's own hooks around a
    fork do not run: only a process with one thread may call this, and its child may only make system calls, then
    exec or exit by ``os._exit``.

    Raises:
        OSError: with errno.
    Source: man clone3(2).
    """
    pidfd = bytearray(4)
    cgroup = cgroup_fd if flags & CLONE_INTO_CGROUP else 0
    words = (flags | CLONE_PIDFD, address_of(pidfd), 0, 0, _SIGCHLD, 0, 0, 0, 0, 0, cgroup)
    arguments = struct.pack("=11Q", *words)
    pid = libc.syscall_holding_gil("clone3", arguments, len(arguments))
    return (pid, struct.unpack("=i", pidfd)[0]) if pid else (0, -1)


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces.

    Raises:
        OSError: with errno.
    Source: man unshare(2).
    """
    syscall("unshare", flags)


def setns(descriptor: int, flags: int, *, path: str) -> None:
    """Enter the namespaces ``flags`` of a pidfd, or one namespace by its own descriptor; ``path`` is for errors.

    Raises:
        OSError: with errno and ``path``.
    Source: man setns(2).
    """
    syscall("setns", descriptor, flags, path=path)
