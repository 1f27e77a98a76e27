"""Everything on this host that a test run could leave behind, as lines that can be compared.

On a machine that the tests have to themselves (CI=true) anything new counts; elsewhere only what is known to be ours by
its name, since others may mount or plug in things meanwhile.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.linux import command
from lab.paths import Paths

_MARKER = "LAB_TEST_SESSION"
_GRACE_S = 10.0
_POLL_S = 0.02
_SHALLOW = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/run/netns", "/etc", "/var/lib", "/var/cache", "/var/log")
# Documented in docs/reference/environment.md, or kept by programs that are not ours.
_DOCUMENTED = ("/var/lib/lab", "/var/cache/lab", "/run/lab", "/tmp/pytest-of-")
_FOREIGN = (
    "/run/docker",
    "/run/containerd",
    "/run/netns",
    "/run/xtables.lock",
    "/run/crun",
    "/run/runc",
    "/run/containers",
    "/run/libpod",
    "/dev/shm/libpod",
    "/var/lib/containers",
    "/var/lib/cni",
)
# Parents that are made once and are empty: libvirt's for all guests, docker's for all containers, ours for all runs.
_KEPT_CGROUPS = ("machine", "docker", "lab")
_KEPT_MOUNTS = ("/run/netns",)
"""Where `ip netns add` mounts the directory over itself once, for all namespaces to come."""


@contextmanager
def marked_children() -> Iterator[None]:
    """Give every process started from here on a mark in its environment, so that orphans can be found as well."""
    os.environ[_MARKER] = str(uuid.uuid4())
    yield
    del os.environ[_MARKER]


def everything() -> frozenset[str]:
    """Return processes, mounts, links, cgroups, nftables tables and files in the usual places."""
    return kernel_objects() | processes() | _tables() | _files()


def kernel_objects() -> frozenset[str]:
    """Return mounts, links and cgroups: cheap enough to be compared around each test."""
    return _mounts() | _links() | _cgroups()


def processes() -> frozenset[str]:
    """Return the processes that bear the mark of this run."""
    mark = f"{_MARKER}={os.environ.get(_MARKER, '')}".encode()
    me = str(os.getpid())
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if pid != me and mark in _read(f"/proc/{pid}/environ").split(b"\0"):
                found.append(f"process {pid} {_read(f'/proc/{pid}/cmdline').replace(bytes(1), b' ').decode()[:120]}")
        except (OSError, ValueError):
            continue  # it ended while we looked, or it is not ours to read
    return frozenset(found)


def wait_until_gone(before: frozenset[str], look: Callable[[], frozenset[str]]) -> list[str]:
    """Return what is there now and was not before, once the kernel has had time to reap what was let go."""
    deadline = time.monotonic() + _GRACE_S
    while (lost := look() - before) and time.monotonic() < deadline:
        time.sleep(_POLL_S)  # network namespaces and cgroups go away asynchronously and give no event
    return sorted(lost)


def _alone() -> bool:
    return os.environ.get("CI") == "true"


def _is_ours(path: str) -> bool:
    paths = Paths.default()
    return _alone() or "/lab" in path or any(path.startswith(place) for place in (paths.root, paths.cache, paths.run))


def _mounts() -> frozenset[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        points = [line.split()[4] for line in file]
    return frozenset(f"mount {point}" for point in points if _is_ours(point) and point not in _KEPT_MOUNTS)


def _links() -> frozenset[str]:
    return frozenset(f"link {name}" for name in os.listdir("/sys/class/net") if _alone() or name.startswith("lab"))


def _cgroups() -> frozenset[str]:
    found = []
    kept = {os.path.join(own, name) for own in ("/", *_own_cgroups()) for name in _KEPT_CGROUPS}
    for mount in _cgroup_mounts():
        for directory, _, _ in os.walk(mount):
            inner = directory[len(mount) :]
            if inner and inner not in kept and (_alone() or "/lab" in inner):
                found.append(f"cgroup {directory}")
    return frozenset(found)


def _own_cgroups() -> frozenset[str]:
    """Return where we are in each hierarchy: docker makes a parent that is named by a relative path below that."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        return frozenset(line.rstrip("\n").split(":", 2)[2] for line in file)


def _cgroup_mounts() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        rows = [line.split() for line in file]
    return sorted({row[4] for row in rows if row[row.index("-") + 1] in ("cgroup", "cgroup2")})


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _tables() -> frozenset[str]:
    try:
        listed = command.run(["nft", "list", "tables"]).text.splitlines()
    except FileNotFoundError:
        return frozenset()
    return frozenset(f"nftables {line}" for line in listed if _alone() or "lab" in line)


def _files() -> frozenset[str]:
    found = []
    for directory in _SHALLOW:
        names = os.listdir(directory) if os.path.isdir(directory) else []
        found += [os.path.join(directory, name) for name in names]
    kept = (*_DOCUMENTED, *_FOREIGN)
    return frozenset(f"file {path}" for path in found if _is_ours(path) and not path.startswith(kept))
