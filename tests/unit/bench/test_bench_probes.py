"""Noise between two readings, and the views of memory of a process that is known: this one."""

from __future__ import annotations

import os

from lab.bench import overhead
from lab.bench.probes import footprint, noise
from lab.bench.probes.noise import HostCounters
from lab.target.spec import Footprint

SECOND = 1_000_000_000


def _counters(at_ns: int, *, steal_ns: int = 0, io_ns: int = 0, faults: int = 0, runnable: int = 1) -> HostCounters:
    return HostCounters(
        at_ns=at_ns, steal_ns=steal_ns, cpu_ns=0, io_ns=io_ns, memory_ns=0, major_faults=faults, runnable=runnable
    )


def test_a_quiet_trial_has_no_flags() -> None:
    found = noise.between(_counters(0), _counters(SECOND))

    assert found.flags == ()
    assert found.run_queue == 0


def test_each_disturbance_raises_its_flag() -> None:
    cpus = os.cpu_count() or 1
    after = _counters(SECOND, steal_ns=SECOND * cpus // 10, io_ns=SECOND // 5, faults=51, runnable=1 + 5 * cpus)

    found = noise.between(_counters(0), after)

    assert set(found.flags) == {"steal", "pressure", "major_faults", "run_queue"}
    assert found.steal_ns == SECOND * cpus // 10


def test_the_views_of_this_process_are_in_their_natural_order() -> None:
    views = footprint.process_views((os.getpid(), os.getpid()))

    assert 0 < views["uss"] <= views["pss"] <= views["rss"]
    assert abs(views["pss"] - views["pss_anon"] - views["pss_file"] - views["pss_shmem"]) <= 64 * 1024


def test_a_process_that_is_gone_counts_nothing() -> None:
    assert footprint.process_views((2**22 - 1,))["rss"] == 0


def test_a_target_without_cgroups_has_no_cgroup_views() -> None:
    nothing = Footprint(cgroups=(), pids=())

    assert footprint.cgroup_views(nothing) == {}
    assert footprint.cpu_ns(nothing) is None


def test_the_overhead_of_the_harness_is_measured_with_its_own_loop() -> None:
    ticks = iter(range(0, 10**12, 1000))

    readings = overhead.measure(lambda: next(ticks))

    assert set(readings) == {"harness_startup_wall_ns", "harness_exec_wall_ns", "harness_stop_wall_ns"}
    assert all(int(value) > 0 for value in readings.values())
