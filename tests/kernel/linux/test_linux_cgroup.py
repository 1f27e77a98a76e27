"""Cgroups on whatever layout this host has: made, joined, counted, frozen, killed, removed."""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lab.linux import command
from lab.linux.cgroup import layout as cgroup
from lab.linux.cgroup import usage, v2
from lab.linux.cgroup.layout import CgroupLayout, CgroupWrite

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MIB = 1024 * 1024
CONTROLLERS = (*cgroup.TARGET_CONTROLLERS, "cpuset")

Start = Callable[..., command.Process]


def _deadline_ns() -> int:
    return time.monotonic_ns() + 30_000_000_000


@pytest.fixture
def layout() -> CgroupLayout:
    return cgroup.detect()


@pytest.fixture
def name(layout: CgroupLayout) -> Iterator[str]:
    """Return the name of a cgroup in every hierarchy that has something to say."""
    made = f"lab-test-cgroup-{os.getpid()}/inner"
    cgroup.create(layout, made, CONTROLLERS)
    yield made
    cgroup.kill(layout, os.path.dirname(made), deadline_ns=_deadline_ns())
    cgroup.remove(layout, os.path.dirname(made), deadline_ns=_deadline_ns())


@pytest.fixture
def start(layout: CgroupLayout, name: str) -> Iterator[Start]:
    """Return a function that starts a shell script in the cgroup, and returns when the script has said so."""
    with ExitStack() as stack:

        def begin(script: str) -> command.Process:
            joins = "".join(f"echo 0 > {path}/cgroup.procs; " for path in cgroup.directories(layout, name))
            process = stack.enter_context(command.spawn(("sh", "-c", f"{joins}{script}"), stdout=command.PIPE))
            stack.callback(lambda: cgroup.kill(layout, name, deadline_ns=_deadline_ns()))
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            return process

        yield begin


def _directory(layout: CgroupLayout, name: str, controller: str) -> str:
    hierarchy = layout.hierarchy(controller) or layout.hierarchy("")
    assert hierarchy is not None
    return hierarchy.directory(name)


def _memory(layout: CgroupLayout, name: str) -> usage.MemoryUsage:
    read = usage.memory_v1 if layout.version("memory") == 1 else usage.memory_v2
    found = read(_directory(layout, name, "memory"))
    assert found is not None
    return found


def _cpu(layout: CgroupLayout, name: str) -> usage.CpuUsage:
    directory = _directory(layout, name, "cpu")
    v1 = layout.version("cpu") == 1
    found = usage.cpu_v1(_directory(layout, name, "cpuacct"), directory) if v1 else usage.cpu_v2(directory)
    assert found is not None
    return found


def test_every_controller_of_the_host_is_there_below_as_well(layout: CgroupLayout, name: str) -> None:
    for hierarchy in layout.hierarchies:
        wanted = set(hierarchy.controllers).intersection(CONTROLLERS)
        if hierarchy.version == 2:
            assert wanted <= set(v2.controllers(hierarchy.directory(name)))
        elif wanted:
            assert os.path.isdir(hierarchy.directory(name))


def test_what_memory_is_used_for_is_told_apart(layout: CgroupLayout, name: str, start: Start) -> None:
    before = _memory(layout, name)
    start("x=$(head -c 20000000 /dev/zero | tr '\\0' x); echo ready; sleep 1000")
    after = _memory(layout, name)
    assert after.anon_bytes - before.anon_bytes > 15 * MIB
    assert after.usage_bytes >= after.anon_bytes
    assert after.peak_bytes is None or after.peak_bytes >= after.anon_bytes


def test_time_on_the_processor_and_throttling_are_counted(layout: CgroupLayout, name: str, start: Start) -> None:
    quota = {
        1: (("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "4000")),
        2: (("cpu.max", "4000 20000"),),
    }[layout.version("cpu") or 0]
    cgroup.write(layout, name, [CgroupWrite(controller="cpu", file=file, value=value) for file, value in quota])
    start("echo ready; while :; do :; done")
    deadline_ns = _deadline_ns()
    while not (used := _cpu(layout, name)).throttled_ns:  # counted when it is let go on
        assert time.monotonic_ns() < deadline_ns, f"never throttled: {used}"
        select.select((), (), (), 0.01)
    assert used.usage_ns > 1_000_000
    assert used.throttled_periods > 0
    assert used.periods >= used.throttled_periods


def test_tasks_are_counted_and_listed(layout: CgroupLayout, name: str, start: Start) -> None:
    process = start("sleep 1000 & echo ready; wait")
    assert usage.pids(_directory(layout, name, "pids")) == 2
    pids = cgroup.processes(layout, os.path.dirname(name))
    assert len(pids) == 2
    assert process.pid in pids


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[str]:
    """Return the path of a small disk of zeros."""
    with open(tmp_path / "disk", "wb") as file:
        file.truncate(4 * MIB)
    attached = command.run(("losetup", "--find", "--show", file.name))
    assert attached.exit_code == 0, attached.error_text
    yield attached.text
    command.run(("losetup", "--detach", attached.text))


def test_what_is_read_from_a_disk_is_counted_and_held_back(
    layout: CgroupLayout, name: str, start: Start, disk: str
) -> None:
    device = os.stat(disk).st_rdev
    numbers = f"{os.major(device)}:{os.minor(device)}"
    v1 = layout.version("blkio") == 1
    controller, file, rate = ("blkio", "blkio.throttle.read_bps_device", MIB) if v1 else ("io", "io.max", f"rbps={MIB}")
    cgroup.write(layout, name, [CgroupWrite(controller=controller, file=file, value=f"{numbers} {rate}")])
    before_ns = time.monotonic_ns()
    start(f"dd if={disk} of=/dev/null bs=128k count=8 iflag=direct 2>/dev/null; echo ready; sleep 1000")
    assert time.monotonic_ns() - before_ns > 500_000_000  # 1 MiB at 1 MiB/s, less what may be had in advance
    counted = (usage.io_v1 if v1 else usage.io_v2)(_directory(layout, name, controller))
    assert counted is not None
    assert counted.read_bytes >= MIB
    assert counted.reads >= 8


def test_a_kill_for_want_of_memory_leaves_its_evidence(layout: CgroupLayout, name: str, start: Start) -> None:
    directory = _directory(layout, name, "memory")
    assert usage.oom_kills(directory) == 0
    file = "memory.max" if layout.version("memory") == 2 else "memory.limit_in_bytes"
    cgroup.write(layout, name, [CgroupWrite(controller="memory", file=file, value=str(8 * MIB))])
    process = start("echo ready; x=$(head -c 40000000 /dev/zero | tr '\\0' x); sleep 1000")
    process.wait(30)
    assert usage.oom_kills(directory) == 1


def test_frozen_is_when_nothing_runs_any_more(layout: CgroupLayout, name: str, start: Start) -> None:
    start("echo ready; while :; do :; done")
    cgroup.freeze(layout, name, frozen=True, deadline_ns=_deadline_ns())
    used = _cpu(layout, name).usage_ns
    select.select((), (), (), 0.05)
    assert _cpu(layout, name).usage_ns == used
    cgroup.freeze(layout, name, frozen=False, deadline_ns=_deadline_ns())
    deadline_ns = _deadline_ns()
    while _cpu(layout, name).usage_ns == used:
        assert time.monotonic_ns() < deadline_ns, "it does not go on"
        select.select((), (), (), 0.01)


def test_a_kill_takes_all_below_even_frozen_ones_and_then_it_can_be_removed(
    layout: CgroupLayout, name: str, start: Start
) -> None:
    start("sleep 1000 & sleep 1000 & echo ready; wait")
    cgroup.freeze(layout, name, frozen=True, deadline_ns=_deadline_ns())
    parent = os.path.dirname(name)
    cgroup.kill(layout, parent, deadline_ns=_deadline_ns())
    assert cgroup.processes(layout, parent) == ()
    cgroup.remove(layout, parent, deadline_ns=_deadline_ns())
    assert cgroup.directories(layout, parent) == ()


def test_a_cgroup_is_made_once_more_without_complaint(layout: CgroupLayout, name: str, start: Start) -> None:
    start("echo ready; sleep 1000")
    cgroup.create(layout, name, CONTROLLERS)


def test_on_v2_a_cgroup_with_processes_gives_no_controller_to_those_below(
    layout: CgroupLayout, name: str, start: Start
) -> None:
    unified = layout.hierarchy("")
    if unified is None or not unified.controllers:
        pytest.skip("no cgroup v2 hierarchy with a controller is mounted")
    v2.create(unified.mount_point, name, unified.controllers)
    start("echo ready; sleep 1000")
    for controller in unified.controllers:
        with pytest.raises(OSError, match=r"processes of its own.*cgroup\.subtree_control") as caught:
            v2.create(unified.mount_point, f"{name}/below", [controller])
        assert caught.value.errno == errno.EBUSY
    cgroup.kill(layout, name, deadline_ns=_deadline_ns())
    v2.create(unified.mount_point, f"{name}/below", unified.controllers)
    assert set(v2.controllers(unified.directory(f"{name}/below"))) == set(unified.controllers)
