"""Interface files of cgroup v2.

Source: kernel Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterable

from lab.linux.cgroup import v1


def controllers(mount_point: str) -> tuple[str, ...]:
    """Return the controllers that a v2 root offers; none when it cannot be read."""
    try:
        return tuple(v1.read(os.path.join(mount_point, "cgroup.controllers")).split())
    except OSError:
        return ()


def create(mount_point: str, cgroup: str, wanted: Iterable[str]) -> None:
    """Make a cgroup and its parents, and delegate the wanted controllers from the root down to it.

    Raises:
        OSError: with errno and path; EBUSY when a parent has processes of its own.
    """
    names = tuple(wanted)
    directory = mount_point
    for part in cgroup.strip("/").split("/"):
        _delegate(directory, names)
        directory = os.path.join(directory, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)


def _delegate(directory: str, names: tuple[str, ...]) -> None:
    if not names:
        return
    path = os.path.join(directory, "cgroup.subtree_control")
    # Even a line that changes nothing waits until all controllers of cgroups just removed have gone: read first.
    missing = set(names).difference(v1.read(path).split())
    if not missing:
        return
    if _holds_processes(directory):
        raise OSError(errno.EBUSY, f"it has processes of its own, writing '+{' +'.join(sorted(missing))}'", path)
    v1.write(path, " ".join(f"+{name}" for name in sorted(missing)))


def _holds_processes(directory: str) -> bool:
    """Return whether a cgroup that is not the root of all has processes itself.

    The kernel would take controllers of threads (cpu, pids) for those below all the same, but turn them into something
    that no process can be moved to.
    """
    is_root = not os.path.exists(os.path.join(directory, "cgroup.type"))
    return not is_root and bool(v1.read(os.path.join(directory, "cgroup.procs")))


def kill(directory: str) -> bool:
    """Kill all processes of a v2 cgroup and below at a stroke; return whether none is left already.

    False too where the directory is of no such cgroup, or the kernel has no cgroup.kill (before Linux 5.14).
    """
    path = os.path.join(directory, "cgroup.kill")
    if not os.path.exists(path):
        return False
    v1.write(path, "1")
    return not v1.processes(directory)


def events(directory: str) -> dict[str, int]:
    """Return cgroup.events: "populated" and "frozen", 0 or 1.

    Raises:
        OSError: with errno and path.
    """
    lines = v1.read(os.path.join(directory, "cgroup.events")).splitlines()
    return {name: int(value) for name, value in (line.split() for line in lines)}


def freeze(directory: str, *, frozen: bool, deadline_ns: int) -> None:
    """Freeze or thaw a v2 cgroup and return when cgroup.events says that it is.

    Raises:
        TimeoutError: it has not happened by ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    v1.write(os.path.join(directory, "cgroup.freeze"), str(int(frozen)))
    descriptor = os.open(os.path.join(directory, "cgroup.events"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLPRI)
        while events(directory)["frozen"] != int(frozen):
            remaining_ms = (deadline_ns - time.monotonic_ns()) // 1_000_000
            if remaining_ms <= 0:
                raise TimeoutError(f"{directory} did not {'freeze' if frozen else 'thaw'}")
            poll.poll(min(remaining_ms, 20))
    finally:
        os.close(descriptor)
