"""Limits hold: memory kills, processors are rationed, tasks are counted."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from lab.container import resources
from lab.container.spec.runtime import Cpu, Memory, Pids, Resources
from lab.errors import StateConflict
from lab.linux.cgroup import layout as cgroup

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

MIB = 1024 * 1024


def _read(containers: Containers, container_id: str, controller: str, file: str) -> str:
    state = containers.engine.state(container_id)
    layout = containers.engine.runtime.layout
    hierarchy = layout.hierarchy(controller) or layout.hierarchy("")
    assert hierarchy is not None, f"no cgroup for {controller}"
    with open(os.path.join(hierarchy.directory(state.cgroup), file), encoding="utf-8") as opened:
        return opened.read()


@pytest.mark.needs("cgroup-memory")
def test_memory_over_the_limit_is_killed(containers: Containers) -> None:
    limits = resources.limits(vcpus=1, memory_bytes=16 * MIB, pids=16)
    outcome = containers.shell("head -c 40000000 /dev/zero > /dev/shm/x", resources=limits)
    assert outcome.code == 128 + signal.SIGKILL


@pytest.mark.needs("cgroup-cpu")
def test_a_spinning_container_is_throttled(containers: Containers) -> None:
    limits = resources.limits(vcpus=0.2, memory_bytes=16 * MIB, pids=16)
    container_id = containers.create("/bin/sh", "-c", "while :; do :; done", resources=limits)
    containers.start(container_id)
    deadline_ns = time.monotonic_ns() + 30_000_000_000
    while "nr_throttled 0\n" in _read(containers, container_id, "cpu", "cpu.stat"):
        assert time.monotonic_ns() < deadline_ns, "it was never throttled"
        os.sched_yield()


@pytest.mark.needs("cgroup-pids")
def test_a_fork_bomb_stops_at_the_limit(containers: Containers) -> None:
    limits = resources.limits(vcpus=1, memory_bytes=64 * MIB, pids=8)
    outcome = containers.shell("for i in 1 2 3 4 5 6 7 8 9 10; do sleep 100 & done", resources=limits)
    assert "can't fork" in outcome.err


def test_executed_programs_are_under_the_same_limits(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    joined = containers.exec(container_id, "/bin/cat", "/proc/self/cgroup").out.splitlines()
    state = containers.engine.state(container_id)
    directories = cgroup.directories(containers.engine.runtime.layout, state.cgroup)
    assert sum(line.endswith(":/") for line in joined) >= len(directories)
    pids = containers.engine.runtime.processes(containers.engine.state(container_id))
    assert len(pids) == 1


def test_a_cpuset_is_honoured(containers: Containers) -> None:
    limits = Resources(cpu=Cpu(cpus="0"))
    outcome = containers.shell("/bin/busybox grep Cpus_allowed_list /proc/self/status", resources=limits)
    assert outcome.out.split() == ["Cpus_allowed_list:", "0"]


def test_every_limit_is_in_the_kernels_files(containers: Containers) -> None:
    limits = Resources(
        cpu=Cpu(shares=512, quota=20_000, period=50_000, cpus="0", mems="0"),
        memory=Memory(limit=64 * MIB, swap=96 * MIB),
        pids=Pids(limit=33),
    )
    container_id, _ = containers.start_sleeping(resources=limits)
    version = containers.engine.runtime.layout.version
    expected = {
        ("cpu", 1): {"cpu.shares": 512, "cpu.cfs_quota_us": 20_000, "cpu.cfs_period_us": 50_000},
        ("cpu", 2): {"cpu.weight": resources.cpu_weight(512), "cpu.max": "20000 50000"},
        ("memory", 1): {"memory.limit_in_bytes": 64 * MIB, "memory.memsw.limit_in_bytes": 96 * MIB},
        ("memory", 2): {"memory.max": 64 * MIB, "memory.swap.max": 32 * MIB},
    }
    common = {"cpuset": {"cpuset.cpus": 0, "cpuset.mems": 0}, "pids": {"pids.max": 33}}
    for controller in ("cpu", "memory", *common):
        files = common.get(controller) or expected[controller, version(controller) or 0]
        seen = {file: _read(containers, container_id, controller, file).strip() for file in files}
        assert seen == {file: str(value) for file, value in files.items()}


def test_a_frozen_container_does_nothing_until_it_is_thawed(containers: Containers) -> None:
    container_id = containers.create("/bin/sh", "-c", "while :; do echo >> /tmp/written; done")
    written = os.path.join(containers.engine.state(container_id).upper, "tmp", "written")
    running = containers.start(container_id)
    _await_growth(written, 0)
    containers.engine.pause(container_id)
    size = os.stat(written).st_size
    assert running.wait(time.monotonic_ns() + 100_000_000) is None
    assert os.stat(written).st_size == size
    containers.engine.resume(container_id)
    _await_growth(written, size)


def _await_growth(path: str, size: int) -> None:
    deadline_ns = time.monotonic_ns() + 30_000_000_000
    while not os.path.exists(path) or os.stat(path).st_size <= size:
        assert time.monotonic_ns() < deadline_ns, f"{path} does not grow beyond {size} bytes"
        os.sched_yield()


def test_a_frozen_container_that_is_killed_is_dead_at_the_latest_when_it_is_thawed(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    containers.engine.pause(container_id)
    containers.engine.kill(container_id, signal.SIGKILL)  # v1 keeps even that until it thaws
    with contextlib.suppress(StateConflict):  # on v2 it may be gone by now
        containers.engine.resume(container_id)
    assert containers.engine.wait(container_id) == 128 + signal.SIGKILL


def test_a_frozen_container_can_be_removed_by_force(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    containers.engine.pause(container_id)
    with pytest.raises(StateConflict):
        containers.engine.delete(container_id)
    containers.engine.delete(container_id, force=True)
