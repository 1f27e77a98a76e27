"""A target's cgroups as its footprint states them: one entry for each directory and controller."""

from __future__ import annotations

import os

from lab.linux.cgroup.layout import CgroupLayout
from lab.target.spec import CgroupDirectory


def cgroup_directories(layout: CgroupLayout, *cgroups: str) -> tuple[CgroupDirectory, ...]:
    """Return the directories of ``cgroups`` (paths below every hierarchy's root) that exist now."""
    return tuple(
        CgroupDirectory(controller=controller, path=path)
        for hierarchy in layout.hierarchies
        for path in map(hierarchy.directory, cgroups)
        if os.path.isdir(path)
        for controller in (("",) if hierarchy.version == 2 else hierarchy.controllers)
    )
