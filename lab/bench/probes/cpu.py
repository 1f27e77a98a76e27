"""What a start costs in CPU time, whoever spends it: the payload, its helpers, daemons, the harness's own process.

A runtime, a shim, a conmon or a daemon works for the target outside of its cgroup; without them a start would look
cheaper the more of it is handed to others. docs/reference/metrics.md says what each arm's number covers.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Collection, Iterable, Mapping

from lab.bench.model import Better, Metric, Sample, Unit
from lab.linux import process_cpu
from lab.linux.cgroup import usage, v1
from lab.linux.process_cpu import ProcessCpu
from lab.target.spec import Footprint
from lab.units import NS_PER_S

METRICS = (
    Metric(name="startup_cpu", unit=Unit.NANOSECONDS, better=Better.LOWER, title="CPU time of a start"),
    Metric(name="startup_cpu_part", unit=Unit.NANOSECONDS, better=Better.LOWER, title="CPU time of a start, in parts"),
)

Processes = Mapping[int, ProcessCpu]


def read_all() -> Processes:
    """Return the CPU time of every process of this host so far, by pid; takes some 30 µs for each."""
    return process_cpu.read_all()


def harness_ns() -> int:
    """Return the CPU time so far of this process and of all programs that it has run to their end."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time_ns() + round((children.ru_utime + children.ru_stime) * NS_PER_S)


def samples(before: Processes, after: Processes, footprint: Footprint, harness_ns: int) -> tuple[Sample, ...]:
    """Return the CPU time between two readings of all processes, in all and by part.

    ``harness_ns`` is what the harness's own process and its children spent meanwhile on the target.
    """
    parts = parts_ns(before, after, footprint) | {"harness": harness_ns}
    split = (Sample(metric="startup_cpu_part", value=value, labels={"part": part}) for part, value in parts.items())
    return (Sample(metric="startup_cpu", value=sum(parts.values())), *split)


def parts_ns(before: Processes, after: Processes, footprint: Footprint) -> dict[str, int]:
    """Return the CPU time of the target's cgroups, of its processes outside of them, and of shared daemons.

    A daemon counts with all that descends from it, but no process counts twice.
    """
    directories = accounting_directories(footprint)
    charged = {pid for directory in directories for pid in v1.processes(directory)}
    # a helper comes and goes with its target: what was there before the start is none, whoever says so
    helpers = tree(after, (*footprint.pids, *footprint.helper_pids)) - charged - before.keys()
    roots = [pid for _, pid in footprint.shared_daemons]
    daemons_before, daemons_after = tree(before, roots), tree(after, roots) - charged - helpers
    return {
        "payload": sum(_charged_ns(directory) for directory in directories),
        "helpers": _between(before, after, (), helpers),
        "daemons": _between(before, after, daemons_before, daemons_after),
    }


def accounting_directories(footprint: Footprint) -> tuple[str, ...]:
    """Return the directories whose CPU time is the target's: of v1's cpuacct if it is there, else of v2."""
    of_v1 = {directory.path for directory in footprint.cgroups if directory.controller == "cpuacct"}
    found = of_v1 or {directory.path for directory in footprint.cgroups if directory.controller == ""}
    # a cgroup counts for those below it
    return tuple(sorted(path for path in found if not any(path.startswith(f"{other}/") for other in found)))


def tree(processes: Processes, roots: Iterable[int]) -> set[int]:
    """Return those of ``roots`` that exist, and all that descend from them."""
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    waiting = [pid for pid in roots if pid in processes]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.add(pid)
            waiting += children.get(pid, [])
    return found


def _between(before: Processes, after: Processes, first: Collection[int], last: Collection[int]) -> int:
    # one that ended in between counts in its parent's time since, and so must be taken off that as well
    spent = sum(after[pid].total_ns for pid in last) - sum(before[pid].total_ns for pid in first)
    return max(0, spent)


def _charged_ns(directory: str) -> int:
    v1_usage = usage.cpu_v1(directory, directory)
    counted = v1_usage if v1_usage is not None else usage.cpu_v2(directory)
    return 0 if counted is None else counted.usage_ns
