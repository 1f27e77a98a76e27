"""A guest's directory of sockets, which also says whose it is; and repair after an owner that was killed.

The owner's lock ends with its process, however that ends. Then the guest has nobody whom it serves: it powers itself
off, and whoever provisions a guest next removes what is left of it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass

from lab.container.storage.snapshots import unmount_below
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.units import NS_PER_S

_OWNER = "owner.json"
_GRACE_NS = 10 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestHome:
    """One guest's directory; ``descriptor`` holds the owner's lock."""

    directory: str
    descriptor: int

    def remove(self) -> None:
        """Remove the directory and let the lock go."""
        shutil.rmtree(self.directory, ignore_errors=True)
        os.close(self.descriptor)


def homes(paths: Paths) -> str:
    """Return the directory of all homes: on what is gone after a reboot, as guests are."""
    return os.path.join(paths.run, "guests")


def make_home(paths: Paths, name: str, *, cgroup: str) -> GuestHome:
    """Make the home of a guest and lock it; it appears under its name with the lock already held.

    Raises:
        FileExistsError: there is a guest of this name.
        OSError: with errno and path.
    """
    final = os.path.join(homes(paths), name)
    building = os.path.join(homes(paths), f".{name}.{os.getpid()}")
    os.makedirs(building)
    descriptor = os.open(os.path.join(building, _OWNER), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"pid": os.getpid(), "cgroup": cgroup}).encode())
        if os.path.exists(final):
            raise FileExistsError(17, "a guest of this name exists", final)
        os.rename(building, final)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        os.close(descriptor)
        raise
    return GuestHome(directory=final, descriptor=descriptor)


def repair(paths: Paths) -> tuple[str, ...]:
    """Remove what killed owners left: QEMU's processes, cgroups, disks and sockets; return the guests' names.

    Raises:
        TimeoutError: a process of a leftover guest does not die.
        OSError: with errno and path.
    """
    try:
        names = [name for name in os.listdir(homes(paths)) if not name.startswith(".")]
    except FileNotFoundError:
        return ()
    return tuple(name for name in names if _repair_one(paths, name))


def _repair_one(paths: Paths, name: str) -> bool:
    directory = os.path.join(homes(paths), name)
    try:
        descriptor = os.open(os.path.join(directory, _OWNER), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False  # its owner has just removed it
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        cgroup = json.loads(os.read(descriptor, 65536))["cgroup"]
    except BlockingIOError:
        return False  # its owner lives
    finally:
        os.close(descriptor)
    layout, deadline_ns = cgroups.detect(), time.monotonic_ns() + _GRACE_NS
    cgroups.kill(layout, cgroup, deadline_ns=deadline_ns)
    cgroups.remove(layout, cgroup, deadline_ns=deadline_ns)
    unmount_below(os.path.join(paths.guests, name))  # a root that was shared as a directory
    shutil.rmtree(os.path.join(paths.guests, name), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
    return True
