"""Where a machine lies: its directory, that of its sockets, its cgroup and its lock; and removing all of it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.container.names import Names
from lab.errors import StateConflict
from lab.linux.cgroup import layout as cgroups
from lab.machine.record import LOCK, MachineRecord, load_record
from lab.paths import Paths
from lab.units import NS_PER_S

_CGROUP_GRACE_NS = 10 * NS_PER_S
_KEPT_WAIT_NS = 2 * NS_PER_S  # a command that only looks whether there is a keeper holds the lock for an instant
_POLL_S = 0.02


def directory(paths: Paths, machine_id: str) -> str:
    """Return a machine's directory, whether it exists or not."""
    return os.path.join(paths.machines, machine_id)


def run_directory(paths: Paths, machine_id: str) -> str:
    """Return where a machine's sockets lie while it runs: sockets' names may not be long."""
    return os.path.join(paths.run, "machines", machine_id[:12])


def cgroup(machine_id: str) -> str:
    """Return the cgroup in which QEMU and what serves the machine run."""
    return f"lab-machine-{machine_id[:12]}"


def make_run_directory(path: str) -> None:
    """Make the directory of a machine's sockets, empty.

    Raises:
        OSError: with errno and path.
    """
    clear_run_directory(path)
    os.makedirs(path, mode=0o700)


def clear_run_directory(path: str) -> None:
    """Remove the directory of a machine's sockets."""
    shutil.rmtree(path, ignore_errors=True)


def kill_cgroup(machine_id: str) -> None:
    """Kill what is left in a machine's cgroup, and remove it.

    Raises:
        TimeoutError: a process does not die.
    """
    layout, deadline_ns = cgroups.detect(), time.monotonic_ns() + _CGROUP_GRACE_NS
    cgroups.kill(layout, cgroup(machine_id), deadline_ns=deadline_ns)
    cgroups.remove(layout, cgroup(machine_id), deadline_ns=deadline_ns)


@contextmanager
def kept(path: str) -> Iterator[None]:
    """Be the keeper of the machine in this directory for the length of the block.

    Raises:
        StateConflict: it has one.
    """
    descriptor = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline_ns = time.monotonic_ns() + _KEPT_WAIT_NS
    try:
        while not _locks(descriptor):
            if time.monotonic_ns() >= deadline_ns:
                raise StateConflict(f"machine {os.path.basename(path)[:12]} runs already", hint="lab vm ls")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def unkept(path: str) -> Iterator[bool]:
    """Give True, and keep keepers away for the block, if the machine in this directory has none; else False."""
    try:
        descriptor = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:  # it is gone
        yield False
        return
    try:
        yield _locks(descriptor)
    finally:
        os.close(descriptor)


def remove(paths: Paths, record: MachineRecord) -> None:
    """Remove a machine that does not run, its name, and the volumes that were made for it alone."""
    path = directory(paths, record.id)
    gone = os.path.join(paths.machines, f".gone-{record.id}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, gone)  # at one stroke: nobody sees half of one
    shutil.rmtree(gone, ignore_errors=True)
    Names(paths.machines).release(record.id)
    if record.volumes:
        from lab.container.volumes import making  # few machines have any

        making.leave(paths, record.volumes, removes=record.options.removes)


def all_ids(paths: Paths) -> tuple[str, ...]:
    """Return the ids of all machines, sorted."""
    try:
        return tuple(sorted(name for name in os.listdir(paths.machines) if not name.startswith(".")))
    except FileNotFoundError:
        return ()


def sweep(paths: Paths) -> None:
    """Remove what killed commands have left of machines in the making, or going."""
    try:
        names = os.listdir(paths.machines)
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(paths.machines, name)
        if name.startswith(".gone-"):
            shutil.rmtree(path, ignore_errors=True)
        elif name.startswith(".new-") and not _maker_lives(name):
            with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # half a record has no volumes yet
                remove_volumes(paths, load_record(path))
            shutil.rmtree(path, ignore_errors=True)


def remove_volumes(paths: Paths, record: MachineRecord) -> None:
    """Remove the volumes that were made for a machine which never was."""
    from lab.container.volumes import making  # few machines have any

    making.leave(paths, record.volumes, removes=True)


def unfinished(paths: Paths, machine_id: str) -> str:
    """Return where this process makes a machine, before it gets its own name."""
    return os.path.join(paths.machines, f".new-{os.getpid()}-{machine_id}")


def _maker_lives(name: str) -> bool:
    return os.path.exists(f"/proc/{name.split('-')[1]}")
