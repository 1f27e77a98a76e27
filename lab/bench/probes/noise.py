"""What disturbs the host while a trial runs: steal, pressure, major faults and the run queue, as deltas.

A reading costs well under a millisecond and is taken outside the measured path. Flags never drop a trial.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from lab.bench.model import Noise
from lab.linux import procfs

STEAL_SHARE = 0.02
"""Steal is flagged from 2 % of the trial's processor time on: the hypervisor gave that much to someone else."""

STALL_SHARE = 0.10
"""IO and memory pressure are flagged from 10 % of the trial's wall time on."""

MAJOR_FAULTS = 50
"""Major faults are flagged from here on: what should have been warm was read from disk."""

RUN_QUEUE_PER_CPU = 2.0
"""The run queue is flagged when more tasks than this were runnable per processor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostCounters:
    """Totals since boot at one instant; ``at_ns`` is on the clock of whoever reads."""

    at_ns: int
    steal_ns: int
    cpu_ns: int
    io_ns: int
    memory_ns: int
    major_faults: int
    runnable: int


def read(at_ns: int) -> HostCounters:
    """Return the host's counters now; pressure is 0 where the kernel does not account for it."""
    return HostCounters(
        at_ns=at_ns,
        steal_ns=procfs.cpu_times().steal_ns,
        cpu_ns=_stall_ns("cpu"),
        io_ns=_stall_ns("io"),
        memory_ns=_stall_ns("memory"),
        major_faults=procfs.vmstat().get("pgmajfault", 0),
        runnable=procfs.load_average().runnable,
    )


def between(before: HostCounters, after: HostCounters) -> Noise:
    """Return what happened between two readings, with the flags that it earns."""
    wall_ns = max(1, after.at_ns - before.at_ns)
    processors = os.cpu_count() or 1
    # the reader itself is runnable at both readings
    run_queue = max(0.0, (before.runnable + after.runnable) / 2 - 1)
    steal_ns = after.steal_ns - before.steal_ns
    io_ns, memory_ns = after.io_ns - before.io_ns, after.memory_ns - before.memory_ns
    faults = after.major_faults - before.major_faults
    flags = {
        "steal": steal_ns > STEAL_SHARE * wall_ns * processors,
        "pressure": max(io_ns, memory_ns) > STALL_SHARE * wall_ns,
        "major_faults": faults >= MAJOR_FAULTS,
        "run_queue": run_queue > RUN_QUEUE_PER_CPU * processors,
    }
    return Noise(
        steal_ns=steal_ns,
        cpu_pressure_ns=after.cpu_ns - before.cpu_ns,
        io_pressure_ns=io_ns,
        memory_pressure_ns=memory_ns,
        major_faults=faults,
        run_queue=run_queue,
        flags=tuple(name for name, raised in flags.items() if raised),
    )


def _stall_ns(resource: str) -> int:
    pressure = procfs.pressure(resource)
    return 0 if pressure is None else pressure.some_ns
