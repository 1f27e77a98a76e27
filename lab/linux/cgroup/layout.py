"""Which cgroup hierarchies this host has, and a cgroup as one path below all of them.

A host is *legacy* (v1 only), *unified* (v2 only) or *hybrid* (both mounted). Nothing here asks for the kind to do
its work: a controller is looked up, and lives in a v1 or in the v2 hierarchy.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import StrEnum

from lab.linux.cgroup import v1, v2


class CgroupKind(StrEnum):
    """How the hierarchies are mounted."""

    LEGACY = "legacy"
    HYBRID = "hybrid"
    UNIFIED = "unified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """One mounted hierarchy: its ``version`` (1 or 2), its mount point, and the controllers that live in it.

    A named v1 hierarchy ("name=systemd") has no controllers.
    """

    version: int
    mount_point: str
    controllers: tuple[str, ...]

    def directory(self, cgroup: str) -> str:
        """Return the absolute directory of a cgroup given by its path below the root ("lab/run/x")."""
        return os.path.join(self.mount_point, cgroup.strip("/"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupLayout:
    """All hierarchies of this host."""

    kind: CgroupKind
    hierarchies: tuple[Hierarchy, ...]

    def hierarchy(self, controller: str) -> Hierarchy | None:
        """Return where a controller lives, None when this host has none; "" asks for the v2 hierarchy itself."""
        for hierarchy in self.hierarchies:
            if controller in hierarchy.controllers or (not controller and hierarchy.version == 2):
                return hierarchy
        return None

    def version(self, controller: str) -> int | None:
        """Return 1 or 2, or None when this host does not have the controller."""
        hierarchy = self.hierarchy(controller)
        return None if hierarchy is None else hierarchy.version

    def select(self, controllers: Iterable[str]) -> tuple[Hierarchy, ...]:
        """Return the hierarchies in which these controllers live, each once; unknown controllers are left out."""
        wanted = set(controllers)
        return tuple(
            h for h in self.hierarchies if wanted.intersection(h.controllers) or ("" in wanted and h.version == 2)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupWrite:
    """One line written to one interface file of a cgroup."""

    controller: str
    file: str
    value: str


TARGET_CONTROLLERS = ("cpu", "cpuacct", "memory", "pids", "freezer", "blkio", "io", "devices")
"""The controllers in which a target gets a cgroup of its own; "cpuset" is added where it is used.

Some are of v1 only, and "io" is what v2 calls "blkio": what a hierarchy does not have is not asked of it.
"""


def detect(mountinfo: str = "/proc/self/mountinfo") -> CgroupLayout:
    """Return the cgroup hierarchies that are mounted, in the order in which they are mounted.

    Raises:
        OSError: ``mountinfo`` cannot be read.
    """
    with open(mountinfo, encoding="utf-8") as lines:
        return parse(lines)


def parse(mountinfo: Iterable[str]) -> CgroupLayout:
    """Return the layout that lines of mountinfo describe; v2's controllers are read from its root.

    Source: man proc_pid_mountinfo(5).
    """
    found: dict[str, Hierarchy] = {}
    for line in mountinfo:
        left, _, right = line.partition(" - ")
        # by single spaces: a source can be empty
        fields, (fstype, _, options) = left.split(" "), right.rstrip("\n").split(" ")[:3] if right else ("", "", "")
        if fstype not in ("cgroup", "cgroup2") or fields[3] != "/":
            continue
        found.setdefault(fields[2], _hierarchy(fstype, fields[4], options))  # a device is one hierarchy, once
    hierarchies = tuple(found.values())
    return CgroupLayout(kind=_kind(hierarchies), hierarchies=hierarchies)


def _hierarchy(fstype: str, mount_point: str, options: str) -> Hierarchy:
    if fstype == "cgroup2":
        return Hierarchy(version=2, mount_point=mount_point, controllers=v2.controllers(mount_point))
    names = tuple(option for option in options.split(",") if option in v1.CONTROLLERS)
    return Hierarchy(version=1, mount_point=mount_point, controllers=names)


def _kind(hierarchies: tuple[Hierarchy, ...]) -> CgroupKind:
    versions = {hierarchy.version for hierarchy in hierarchies}
    if versions == {1, 2}:
        return CgroupKind.HYBRID
    return CgroupKind.UNIFIED if versions == {2} else CgroupKind.LEGACY


def create(
    layout: CgroupLayout,
    cgroup: str,
    controllers: Iterable[str] = TARGET_CONTROLLERS,
    *,
    versions: Collection[int] = (1, 2),
) -> tuple[str, ...]:
    """Make a cgroup, parents included, in every hierarchy that has one of ``controllers``; return its directories.

    Only hierarchies of these ``versions`` are touched.

    The v2 hierarchy is always among them when there is one: pressure, and killing at a stroke, live there.

    Raises:
        OSError: with errno and path.
    """
    wanted = tuple(controllers)
    directories = []
    for hierarchy in layout.select((*wanted, "")):
        if hierarchy.version not in versions:
            continue
        if hierarchy.version == 2:
            v2.create(hierarchy.mount_point, cgroup, [name for name in wanted if name in hierarchy.controllers])
        else:
            v1.create(hierarchy.mount_point, cgroup, cpuset="cpuset" in hierarchy.controllers)
        directories.append(hierarchy.directory(cgroup))
    return tuple(directories)


def widen(layout: CgroupLayout, cgroup: str, controllers: Iterable[str]) -> None:
    """Give a cgroup that is in use further ``controllers``: its processes move into hierarchies that it was not in.

    Raises:
        OSError: with errno and path.
    """
    inside = processes(layout, cgroup)
    known = directories(layout, cgroup)
    for directory in create(layout, cgroup, controllers):
        for pid in inside if directory not in known else ():
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                v1.write(os.path.join(directory, "cgroup.procs"), str(pid))


def directories(layout: CgroupLayout, cgroup: str) -> tuple[str, ...]:
    """Return the directories of a cgroup that exist now, in any hierarchy."""
    candidates = (hierarchy.directory(cgroup) for hierarchy in layout.hierarchies)
    return tuple(directory for directory in candidates if os.path.isdir(directory))


def write(layout: CgroupLayout, cgroup: str, writes: Iterable[CgroupWrite]) -> None:
    """Carry out planned writes in order; those for controllers that the host lacks cannot have been planned.

    Raises:
        OSError: with errno and the interface file.
    """
    for planned in writes:
        hierarchy = layout.hierarchy(planned.controller)
        if hierarchy is None:
            raise FileNotFoundError(2, f"no cgroup controller {planned.controller!r} on this host", planned.file)
        v1.write(os.path.join(hierarchy.directory(cgroup), planned.file), planned.value)


def attach(layout: CgroupLayout, cgroup: str, pid: int) -> None:
    """Move a process (0: the calling one) into a cgroup, in every hierarchy in which the cgroup exists.

    Raises:
        OSError: with errno and path.
    """
    for directory in directories(layout, cgroup):
        v1.write(os.path.join(directory, "cgroup.procs"), str(pid))


def processes(layout: CgroupLayout, cgroup: str) -> tuple[int, ...]:
    """Return the pids in a cgroup and in all below it, in any hierarchy, sorted; those that left meanwhile are not."""
    found: set[int] = set()
    for directory in directories(layout, cgroup):
        found.update(v1.processes(directory))
    return tuple(sorted(found))


def kill(layout: CgroupLayout, cgroup: str, *, deadline_ns: int) -> None:
    """Kill every process in a cgroup and below it, and return when none is left.

    v2 does so at a stroke; on v1 SIGKILL is repeated, since a process may fork between reading and killing.

    Raises:
        TimeoutError: processes were left at ``deadline_ns`` (CLOCK_MONOTONIC): they hang in the kernel.
    """
    frozen = next(
        (h.directory(cgroup) for h in layout.hierarchies if h.version == 1 and "freezer" in h.controllers), ""
    )
    for directory in directories(layout, cgroup):
        if not v2.kill(directory):
            v1.kill(directory, freezer=frozen if os.path.isdir(frozen) else None, deadline_ns=deadline_ns)


def freeze(layout: CgroupLayout, cgroup: str, *, frozen: bool, deadline_ns: int) -> None:
    """Freeze or thaw every process of a cgroup, and return when that has happened.

    Raises:
        FileNotFoundError: neither hierarchy can freeze this cgroup.
        TimeoutError: it has not happened by ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    freezer = layout.hierarchy("freezer") or layout.hierarchy("")
    if freezer is None:
        raise FileNotFoundError(2, "no freezer on this host", cgroup)
    version = v2 if freezer.version == 2 else v1
    version.freeze(freezer.directory(cgroup), frozen=frozen, deadline_ns=deadline_ns)


def freezer_file(layout: CgroupLayout, cgroup: str) -> tuple[str, str]:
    """Return the interface file that says whether a cgroup is frozen, and its text then; ("", "") if there is none."""
    freezer = layout.hierarchy("freezer") or layout.hierarchy("")
    if freezer is None:
        return "", ""
    name, frozen = ("cgroup.freeze", "1") if freezer.version == 2 else ("freezer.state", "FROZEN")
    return os.path.join(freezer.directory(cgroup), name), frozen


def is_frozen(layout: CgroupLayout, cgroup: str) -> bool:
    """Return whether a cgroup has been frozen by ``freeze``; one that does not exist is not."""
    path, frozen = freezer_file(layout, cgroup)
    try:
        return bool(path) and v1.read(path) == frozen
    except OSError:  # it is gone, or going
        return False


def remove(layout: CgroupLayout, cgroup: str, *, deadline_ns: int) -> None:
    """Remove an empty cgroup and the empty ones below it from every hierarchy; one that is not there is no error.

    Raises:
        TimeoutError: it was still busy at ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    for directory in directories(layout, cgroup):
        v1.remove(directory, deadline_ns=deadline_ns)


def oom_counter(layout: CgroupLayout, cgroup: str) -> str:
    """Return the file with the line "oom_kill N" of a cgroup, whether it exists or not; "" without such a controller.

    Where it is of v2 those of cgroups below count as well.
    """
    hierarchy = layout.hierarchy("memory")
    if hierarchy is None:
        return ""
    name = "memory.events" if hierarchy.version == 2 else "memory.oom_control"
    return os.path.join(hierarchy.directory(cgroup), name)
