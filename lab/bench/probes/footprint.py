"""Six views of what a target costs in memory, and its CPU time, from the footprint that it states.

The boundary is the same in every arm: each process that would vanish with the target is counted, helpers included;
daemons that serve many targets are named and counted apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.bench.model import Better, Metric, Sample, Unit
from lab.linux import procfs
from lab.linux.cgroup import usage
from lab.target.protocol import GuestView, Target
from lab.target.spec import Footprint

METRICS = (
    Metric(name="memory", unit=Unit.BYTES, better=Better.LOWER, title="memory of one instance"),
    Metric(name="memory_shared_daemons", unit=Unit.BYTES, better=Better.LOWER, title="memory of shared daemons"),
    Metric(name="startup_cpu", unit=Unit.NANOSECONDS, better=Better.LOWER, title="CPU time of the instance at ready"),
)


def available_bytes() -> int:
    """Return the host's MemAvailable."""
    return procfs.meminfo()["MemAvailable"]


def memory(target: Target, *, state: str, available_before_bytes: int) -> tuple[Sample, ...]:
    """Return one reading of every view that this target has, labelled with ``state``."""
    footprint = target.footprint()
    views = process_views((*footprint.pids, *footprint.helper_pids)) | cgroup_views(footprint)
    views["host_available_drop"] = available_before_bytes - available_bytes()
    if isinstance(target, GuestView):
        inside = target.guest_meminfo()
        views["guest_used"] = inside["MemTotal"] - inside["MemAvailable"]
    samples = [
        Sample(metric="memory", value=value, labels={"view": view, "state": state}) for view, value in views.items()
    ]
    return (*samples, *_daemons(footprint, state))


def process_views(pids: Iterable[int]) -> dict[str, int]:
    """Return the sums over processes; one that ends while it is read counts nothing."""
    totals = dict.fromkeys(("pss", "pss_anon", "pss_file", "pss_shmem", "uss", "rss"), 0)
    for pid in dict.fromkeys(pids):
        try:
            sums = procfs.smaps_rollup(pid)
        except ProcessLookupError:
            continue
        totals["pss"] += sums.pss_bytes
        totals["pss_anon"] += sums.pss_anon_bytes
        totals["pss_file"] += sums.pss_file_bytes
        totals["pss_shmem"] += sums.pss_shmem_bytes
        totals["uss"] += sums.uss_bytes
        totals["rss"] += sums.rss_bytes
    return totals


def cgroup_views(footprint: Footprint) -> dict[str, int]:
    """Return what is charged to the target's memory cgroups, in all and less inactive file; nothing where none is."""
    readings = [_memory(directory.controller, directory.path) for directory in footprint.cgroups]
    found = [reading for reading in readings if reading is not None]
    if not found:
        return {}
    total = sum(reading.usage_bytes for reading in found)
    return {"cgroup": total, "cgroup_working_set": total - sum(reading.inactive_file_bytes for reading in found)}


def cpu_ns(footprint: Footprint) -> int | None:
    """Return the CPU time charged to the target's cgroups since they were made, None where none counts it."""
    directories = _by_controller(footprint)
    unified = directories.get("")
    if "cpuacct" in directories:
        counted = usage.cpu_v1(directories["cpuacct"], directories.get("cpu", directories["cpuacct"]))
    else:
        counted = None if unified is None else usage.cpu_v2(unified)
    return None if counted is None else counted.usage_ns


def _by_controller(footprint: Footprint) -> Mapping[str, str]:
    return {directory.controller: directory.path for directory in footprint.cgroups}


def _memory(controller: str, path: str) -> usage.MemoryUsage | None:
    if controller == "memory":
        return usage.memory_v1(path)
    return usage.memory_v2(path) if controller == "" else None


def _daemons(footprint: Footprint, state: str) -> list[Sample]:
    samples = []
    for name, pid in footprint.shared_daemons:
        value = process_views((pid,))["pss"]
        labels = {"daemon": name, "view": "pss", "state": state}
        samples.append(Sample(metric="memory_shared_daemons", value=value, labels=labels))
    return samples
