"""Interface files of cgroup v1, and what both versions share: writing a line, listing, removing.

Source: kernel Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import time
from collections.abc import Iterator

CONTROLLERS = frozenset(
    (
        "blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio",
        "perf_event", "pids", "rdma",
    )
)  # fmt: skip
_SIGKILL = 9
_GONE = (errno.ENOENT, errno.ENODEV)  # a cgroup that is removed meanwhile, before and after its file was opened
_NO_DIRECTORIES_BELOW = 2  # the links of a kernfs directory: itself, its name, and one for each directory in it


def write(path: str, value: str) -> None:
    """Write one line to an interface file.

    Raises:
        OSError: with errno and path.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    except OSError as error:
        raise OSError(error.errno, f"{error.strerror}, writing {value!r}", path) from None
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    """Return the content of an interface file without the last newline.

    Raises:
        OSError: with errno and path.
    """
    with open(path, encoding="utf-8") as file:
        return file.read().rstrip("\n")


def create(mount_point: str, cgroup: str, *, cpuset: bool) -> None:
    """Make a cgroup and its parents in one v1 hierarchy; with ``cpuset`` each inherits the processors and nodes above.

    Raises:
        OSError: with errno and path.
    """
    directory = os.path.join(mount_point, cgroup.strip("/"))
    if not cpuset:
        _make_directories(directory)
        return
    directory = mount_point
    for part in cgroup.strip("/").split("/"):
        parent, directory = directory, os.path.join(directory, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o755)
        _inherit_cpuset(parent, directory)


def _make_directories(directory: str) -> None:
    try:
        os.mkdir(directory, 0o755)  # one call on the start path, where the parent exists
    except FileExistsError:
        return
    except FileNotFoundError:
        os.makedirs(directory, 0o755, exist_ok=True)


def _inherit_cpuset(parent: str, directory: str) -> None:
    for name in ("cpuset.cpus", "cpuset.mems"):  # empty ones make every attach fail with ENOSPC
        path = os.path.join(directory, name)
        if os.path.exists(path) and not read(path):
            write(path, read(os.path.join(parent, name)))


def tree(directory: str) -> Iterator[str]:
    """Yield a cgroup directory and all below it, the deepest first; empty when it is gone."""
    try:
        if os.stat(directory).st_nlink == _NO_DIRECTORIES_BELOW:  # most have none, and dozens of files to be listed
            yield directory
            return
    except FileNotFoundError:
        return
    for path, _, _ in os.walk(directory, topdown=False):
        yield path


def processes(directory: str) -> tuple[int, ...]:
    """Return the pids in a cgroup and all below it, without those that this pid namespace cannot see."""
    found: list[int] = []
    for path in tree(directory):
        try:
            found += [int(line) for line in read(os.path.join(path, "cgroup.procs")).split()]
        except (FileNotFoundError, OSError):
            continue  # it was removed meanwhile (ENOENT, ENODEV)
    return tuple(pid for pid in found if pid)


def kill(directory: str, *, freezer: str | None, deadline_ns: int) -> None:
    """Send SIGKILL to all processes of a cgroup and below until none is left.

    ``freezer`` is the same cgroup's directory in the freezer hierarchy: what is frozen has to be thawed to die.

    Raises:
        TimeoutError: some were left at ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    while pids := processes(directory):
        descriptors = [descriptor for pid in pids if (descriptor := _kill(pid)) is not None]
        if freezer is not None:
            _thaw_all(freezer)
        _await_exit(descriptors)
        if time.monotonic_ns() > deadline_ns:
            raise TimeoutError(f"{directory}: processes {pids} do not die")


def _thaw_all(directory: str) -> None:
    for path in tree(directory):
        try:
            write(os.path.join(path, "freezer.state"), "THAWED")
        except OSError as error:
            if error.errno not in _GONE:
                raise


def _kill(pid: int) -> int | None:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return None  # gone, or a zombie of another thread group
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, _SIGKILL)
    return descriptor


def _await_exit(descriptors: list[int]) -> None:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    poll.poll(10)  # an upper bound: a zombie whose parent does not reap it stays in the list no longer than that
    for descriptor in descriptors:
        os.close(descriptor)


def freeze(directory: str, *, frozen: bool, deadline_ns: int) -> None:
    """Freeze or thaw a v1 freezer cgroup and return when all its tasks are.

    Raises:
        TimeoutError: it has not happened by ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    wanted = "FROZEN" if frozen else "THAWED"
    path = os.path.join(directory, "freezer.state")
    write(path, wanted)
    while read(path) != wanted:  # FREEZING until the last task has noticed; writing again retries
        if time.monotonic_ns() > deadline_ns:
            raise TimeoutError(f"{path} did not become {wanted}")
        write(path, wanted)


def remove(directory: str, *, deadline_ns: int) -> None:
    """Remove a cgroup and the empty ones below it; one that is gone is no error.

    The kernel answers EBUSY until the last exiting task has left, which follows its reaping shortly.

    Raises:
        TimeoutError: it was still busy at ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    for path in tree(directory):
        while not _rmdir(path):
            if time.monotonic_ns() > deadline_ns:
                raise TimeoutError(f"{path} is still busy; processes: {processes(path)}")
            select.select((), (), (), 0.0005)


def _rmdir(path: str) -> bool:
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno != 16:  # EBUSY
            raise
        return False
    return True
