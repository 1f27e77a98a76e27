"""Noise between two readings, and the views of memory of a process that is known: this one."""

from __future__ import annotations

import os
import subprocess
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench import overhead
from lab.bench.probes import cpu, footprint, noise
from lab.bench.probes.noise import HostCounters
from lab.linux import process_cpu
from lab.linux.process_cpu import ProcessCpu
from lab.target.spec import CgroupDirectory, Footprint

SECOND = 1_000_000_000
NOBODY = 2**22 - 1  # above the highest pid that a default kernel gives


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
    views = footprint.process_views((os.getpid(), os.getpid())).views

    assert 0 < views["uss"] <= views["pss"] <= views["rss"]
    assert abs(views["pss"] - views["pss_anon"] - views["pss_file"] - views["pss_shmem"]) <= 64 * 1024


def test_a_process_that_is_gone_counts_nothing() -> None:
    assert footprint.process_views((NOBODY,)).views["rss"] == 0


def test_a_process_that_has_ended_but_was_not_waited_for_counts_nothing() -> None:
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        found = footprint.process_views((child,))
    finally:
        os.waitpid(child, 0)

    assert (found.views["rss"], found.unread) == (0, 0)


def test_the_cpu_time_of_a_process_is_its_clock_and_that_of_the_children_it_has_waited_for() -> None:
    before = process_cpu.read(os.getpid())
    subprocess.run(["/bin/sh", "-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"], check=True)
    now = time.process_time_ns()
    after = process_cpu.read(os.getpid())

    assert after.parent == os.getppid()
    assert before.own_ns < now <= after.own_ns
    assert after.reaped_ns > before.reaped_ns


def test_a_process_that_is_gone_has_no_cpu_time() -> None:
    with pytest.raises(ProcessLookupError):
        process_cpu.read(NOBODY)


@given(st.text().filter(lambda name: "\n" not in name), st.integers(0, 2**22), st.integers(0, 10**9))
def test_a_command_may_be_called_anything(name: str, parent: int, ticks: int) -> None:
    fields = ["S", str(parent), *["0"] * 11, str(ticks), "1", *["7"] * 20]

    assert process_cpu.parse_stat(f"77 ({name}) " + " ".join(fields)) == (parent, (ticks + 1) * 10_000_000)


def process(parent: int, own_ns: int, reaped_ns: int = 0) -> ProcessCpu:
    return ProcessCpu(parent=parent, own_ns=own_ns, reaped_ns=reaped_ns)


def test_the_cpu_time_of_a_start_is_that_of_helpers_and_of_what_descends_from_daemons() -> None:
    before = {1: process(0, 10**9), 20: process(1, 500, 100), 21: process(20, 40)}
    after = {
        1: process(0, 2 * 10**9),
        20: process(1, 700, 190),  # the daemon; 21 has ended and was waited for
        22: process(20, 30),  # a worker of the daemon that is new
        30: process(20, 60, 5),  # a helper, which the daemon has started
        31: process(30, 7),
    }
    target = Footprint(cgroups=(), pids=(), helper_pids=(30, 99), shared_daemons=(("daemon", 20),))

    parts = cpu.parts_ns(before, after, target)

    assert parts == {"payload": 0, "helpers": 72, "daemons": (890 + 30) - (600 + 40)}


def test_what_was_there_before_the_start_is_no_helper() -> None:
    before, after = {1: process(0, 10**9)}, {1: process(0, 2 * 10**9), 5: process(1, 3)}

    assert cpu.parts_ns(before, after, Footprint(cgroups=(), pids=(), helper_pids=(1,)))["helpers"] == 3


def test_the_whole_is_the_sum_of_its_parts() -> None:
    nothing = Footprint(cgroups=(), pids=())

    whole, *parts = cpu.samples({}, {}, nothing, 12)

    assert whole.value == sum(part.value for part in parts) == 12
    assert {part.labels["part"] for part in parts} == {"payload", "helpers", "daemons", "harness"}


def test_cpu_time_is_read_where_it_is_accounted_and_once_for_nested_cgroups() -> None:
    hybrid = (
        CgroupDirectory(controller="cpuacct", path="/cpu/a"),
        CgroupDirectory(controller="cpu", path="/cpu/a"),
        CgroupDirectory(controller="cpuacct", path="/cpu/a/b"),
        CgroupDirectory(controller="cpuacct", path="/cpu/ab"),
        CgroupDirectory(controller="", path="/unified/a"),
    )

    assert cpu.accounting_directories(Footprint(cgroups=hybrid, pids=())) == ("/cpu/a", "/cpu/ab")
    assert cpu.accounting_directories(Footprint(cgroups=hybrid[-1:], pids=())) == ("/unified/a",)


def test_a_target_without_cgroups_has_no_cgroup_views() -> None:
    nothing = Footprint(cgroups=(), pids=())

    assert footprint.cgroup_views(nothing.cgroups) == {}


def test_the_overhead_of_the_harness_is_measured_with_its_own_loop() -> None:
    ticks = iter(range(0, 10**12, 1000))

    readings = overhead.measure(lambda: next(ticks))

    assert set(readings) == {"harness_startup_wall_ns", "harness_exec_wall_ns", "harness_stop_wall_ns"}
    assert all(int(value) > 0 for value in readings.values())
