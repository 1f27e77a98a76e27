"""What the kernel of this host, and libvirt and QEMU on it, can do: each answer comes from doing it once."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable

from lab.errors import EXIT_OK
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.linux.features import Feature, attempt
from lab.paths import Paths
from lab.target.spec import Availability

Attempt = Callable[[Paths], Availability]

_REMOVE_WITHIN_NS = 5_000_000_000
_NFT_TABLE = "lab_doctor"

# A limit that changes nothing for an empty group: by controller and version of the hierarchy it lives in.
_LIMITS = {
    ("cpu", 1): ("cpu.cfs_quota_us", "100000"),
    ("cpu", 2): ("cpu.max", "100000 100000"),
    ("memory", 1): ("memory.limit_in_bytes", "67108864"),
    ("memory", 2): ("memory.max", "67108864"),
    ("pids", 1): ("pids.max", "64"),
    ("pids", 2): ("pids.max", "64"),
}


def root(_paths: Paths) -> Availability:
    """Answer whether this process is root: targets mount, limit and connect, which only root may."""
    if os.geteuid() == 0:
        return Availability(available=True)
    return Availability(available=False, reason="not running as root", hint="run the same command with sudo")


def feature(wanted: Feature, hint: str) -> Attempt:
    """Return an attempt at one feature of the kernel, on the file system that holds the lab's state."""

    def try_it(paths: Paths) -> Availability:
        with tempfile.TemporaryDirectory(prefix="lab-doctor-", dir=_existing(paths.root)) as directory:
            try:
                attempt(wanted, directory)
            except OSError as error:
                advice = hint if os.geteuid() == 0 else "run the same command with sudo"
                return Availability(available=False, reason=error.strerror or str(error), hint=advice)
        return Availability(available=True)

    return try_it


def cgroup_layout(_paths: Paths) -> Availability:
    """Answer with the layout and where each controller is; without any hierarchy nothing can be limited."""
    layout = cgroups.detect()
    facts = [("layout", layout.kind.value)]
    for hierarchy in layout.hierarchies:
        facts += [(name, f"v{hierarchy.version}") for name in hierarchy.controllers]
    if layout.hierarchies:
        return Availability(available=True, facts=tuple(facts))
    hint = "mount -t cgroup2 none /sys/fs/cgroup"
    return Availability(available=False, reason="no cgroup hierarchy is mounted", hint=hint)


def controller(name: str) -> Attempt:
    """Return an attempt to make a cgroup under controller ``name``, to limit it, and to remove it."""
    return lambda _paths: _limit_something(name)


def _limit_something(name: str) -> Availability:
    layout = cgroups.detect()
    hierarchy = layout.hierarchy(name)
    if hierarchy is None:
        hint = f"boot a kernel with the {name} controller, and without cgroup_disable={name}"
        return Availability(available=False, reason=f"no hierarchy has the {name} controller", hint=hint)
    group = f"lab-doctor-{os.getpid()}-{name}"
    file, value = _LIMITS[name, hierarchy.version]
    try:
        cgroups.create(layout, group, [name])
        cgroups.write(layout, group, [cgroups.CgroupWrite(controller=name, file=file, value=value)])
    except OSError as error:
        return Availability(available=False, reason=str(error), hint=_cgroup_hint(error, hierarchy.mount_point))
    finally:
        cgroups.remove(layout, group, deadline_ns=time.monotonic_ns() + _REMOVE_WITHIN_NS)
    return Availability(available=True, facts=(("cgroup", f"v{hierarchy.version}"),))


def _cgroup_hint(error: OSError, root: str) -> str:
    if os.geteuid():
        return "run the same command with sudo"
    if error.errno == errno.EBUSY:  # the root that a container sees is no root: v2 divides it only when it is empty
        return f"mkdir {root}/init; for p in $(cat {root}/cgroup.procs); do echo $p > {root}/init/cgroup.procs; done"
    return "mount the cgroup file system writable"


def nftables(_paths: Paths) -> Availability:
    """Add a table and a chain of our own to the ruleset, and remove them again."""
    table = f"{_NFT_TABLE}_{os.getpid()}"
    chain = f"add table inet {table}\nadd chain inet {table} c {{ type nat hook prerouting priority -100; }}\n"
    try:
        added = command.run(["nft", "-f", "-"], stdin=chain.encode())
    except FileNotFoundError:
        hint = "apt-get install --no-install-recommends nftables"
        return Availability(available=False, reason="nft: no such program", hint=hint)
    command.run(["nft", "delete", "table", "inet", table])
    if added.exit_code == EXIT_OK:
        return Availability(available=True)
    hint = "modprobe nf_tables nft_chain_nat" if os.geteuid() == 0 else "run the same command with sudo"
    return Availability(available=False, reason=f"nft: {added.error_text.splitlines()[0]}", hint=hint)


def _existing(path: str) -> str:
    """Return ``path``, or the nearest directory above it that exists."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
