"""What this host has for limits to be about, found by looking, and by trying where there is nothing to look at."""

from __future__ import annotations

import contextlib
import os

from lab.container import resources
from lab.container.options.cgroups import HostLimits
from lab.container.options.run import RunOptions
from lab.linux.cgroup.layout import CgroupLayout

_ONLINE_CPUS = "/sys/devices/system/cpu/online"
_MEMORY_NODES = "/sys/devices/system/node/has_memory"


def find(options: RunOptions, layout: CgroupLayout) -> HostLimits:
    """Return what ``options`` need to know; most containers need nothing, and nothing is read for them."""
    return HostLimits(
        cpus=_read(_ONLINE_CPUS) if options.cpuset_cpus else "",
        mems=_read(_MEMORY_NODES) if options.cpuset_mems else "",
        weighs_block_io=bool(options.block_io) and _weighs(layout),
    )


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _weighs(layout: CgroupLayout) -> bool:
    """Return whether a cgroup has the file of a weight, which roots lack: one is made for it, and removed."""
    wanted = resources.weight_file(layout)
    hierarchy = layout.hierarchy(wanted[0]) if wanted else None
    if wanted is None or hierarchy is None:
        return False
    directory = hierarchy.directory(f"lab-look-{os.getpid()}")
    os.mkdir(directory)
    try:
        return os.path.exists(os.path.join(directory, wanted[1]))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(directory)
