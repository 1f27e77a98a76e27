"""Six views of what a target costs in memory, from the footprint that it states.

The boundary is the same in every arm: each process that would vanish with the target is counted, helpers included;
daemons that serve many targets are named and counted apart.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.bench.model import Better, Metric, Sample, Unit
from lab.linux import procfs
from lab.linux.cgroup import usage
from lab.target.protocol import GuestView, Target
from lab.target.spec import CgroupDirectory, Footprint

METRICS = (
    Metric(name="memory", unit=Unit.BYTES, better=Better.LOWER, title="memory of one instance"),
    Metric(name="memory_shared_daemons", unit=Unit.BYTES, better=Better.LOWER, title="memory of shared daemons"),
    Metric(name="memory_unread", unit=Unit.COUNT, better=Better.LOWER, title="processes whose memory was not readable"),
)

_FIELDS = {
    "pss": "pss_bytes",
    "pss_anon": "pss_anon_bytes",
    "pss_file": "pss_file_bytes",
    "pss_shmem": "pss_shmem_bytes",
    "uss": "uss_bytes",
    "rss": "rss_bytes",
}


def available_bytes() -> int:
    """Return the host's MemAvailable, as exact as this user and kernel can have it."""
    with contextlib.suppress(PermissionError, FileNotFoundError):
        procfs.refresh_vm_counters()
    return procfs.meminfo()["MemAvailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessViews:
    """Sums over processes by view; no views at all where ``unread`` processes could not be read: they would lie."""

    views: Mapping[str, int]
    unread: int = 0


def memory(target: Target, *, state: str, available_before_bytes: int) -> tuple[Sample, ...]:
    """Return one reading of every view that this target has, labelled with ``state``."""
    footprint = target.footprint()
    processes = process_views((*footprint.pids, *footprint.helper_pids))
    views = {**processes.views, **cgroup_views(footprint.cgroups)}
    views["host_available_drop"] = available_before_bytes - available_bytes()
    if isinstance(target, GuestView):
        inside = target.guest_meminfo()
        views["guest_used"] = inside["MemTotal"] - inside["MemAvailable"]
    samples = [
        Sample(metric="memory", value=value, labels={"view": view, "state": state}) for view, value in views.items()
    ]
    return (*samples, *_unread(processes, state), *_daemons(footprint, state))


def reader(targets: Sequence[Target], *, available_before_bytes: int) -> Callable[[], Mapping[str, int]]:
    """Return a reader of the memory of several targets together, by view; their footprints are taken now, once."""
    footprints = [target.footprint() for target in targets]
    pids = [pid for footprint in footprints for pid in (*footprint.pids, *footprint.helper_pids)]
    cgroups = [directory for footprint in footprints for directory in footprint.cgroups]

    def read() -> Mapping[str, int]:
        drop = available_before_bytes - available_bytes()  # first: to read the others takes memory
        return {"host_available_drop": drop, **process_views(pids).views, **cgroup_views(cgroups)}

    return read


def _unread(processes: ProcessViews, state: str) -> Iterator[Sample]:
    if processes.unread:
        yield Sample(metric="memory_unread", value=processes.unread, labels={"state": state})


def process_views(pids: Iterable[int]) -> ProcessViews:
    """Return the sums over processes; one that ends before it is read, or meanwhile, counts nothing."""
    totals = dict.fromkeys(_FIELDS, 0)
    unread = 0
    for pid in dict.fromkeys(pids):
        try:
            sums = procfs.smaps_rollup(pid)
        except ProcessLookupError:
            continue
        except PermissionError:  # another user's, and we are a root without CAP_SYS_PTRACE
            unread += 1
            continue
        for view, field in _FIELDS.items():
            totals[view] += getattr(sums, field)
    return ProcessViews(views={} if unread else totals, unread=unread)


def cgroup_views(cgroups: Iterable[CgroupDirectory]) -> dict[str, int]:
    """Return what is charged to memory cgroups, in all and less inactive file; nothing where none is."""
    readings = [_memory(directory.controller, directory.path) for directory in cgroups]
    found = [reading for reading in readings if reading is not None]
    if not found:
        return {}
    total = sum(reading.usage_bytes for reading in found)
    return {"cgroup": total, "cgroup_working_set": total - sum(reading.inactive_file_bytes for reading in found)}


def _memory(controller: str, path: str) -> usage.MemoryUsage | None:
    if controller == "memory":
        return usage.memory_v1(path)
    return usage.memory_v2(path) if controller == "" else None


def _daemons(footprint: Footprint, state: str) -> Iterator[Sample]:
    for name, pid in footprint.shared_daemons:
        processes = process_views((pid,))
        labels = {"daemon": name, "state": state}
        if processes.unread:
            yield Sample(metric="memory_unread", value=processes.unread, labels=labels)
        else:
            yield Sample(metric="memory_shared_daemons", value=processes.views["pss"], labels={**labels, "view": "pss"})
