"""Limits hold: memory kills, processors are rationed, tasks are counted."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from lab.container import resources
from lab.container.spec.runtime import Cpu, Resources
from lab.errors import StateConflict

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

MIB = 1024 * 1024


def _read(containers: Containers, container_id: str, controller: str, file: str) -> str:
    state = containers.engine.state(container_id)
    for controllers, path in containers.engine.runtime.cgroup_directories(state):
        if controller in controllers.split(","):
            with open(os.path.join(path, file), encoding="utf-8") as opened:
                return opened.read()
    raise AssertionError(f"no cgroup for {controller}")


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
    assert containers.exec(container_id, "/bin/cat", "/proc/self/cgroup").out.count(":/\n") >= 3
    pids = containers.engine.runtime.processes(containers.engine.state(container_id))
    assert len(pids) == 1


def test_a_cpuset_is_honoured(containers: Containers) -> None:
    limits = Resources(cpu=Cpu(cpus="0"))
    outcome = containers.shell("/bin/busybox grep Cpus_allowed_list /proc/self/status", resources=limits)
    assert outcome.out.split() == ["Cpus_allowed_list:", "0"]


def test_a_frozen_container_does_nothing_until_it_is_thawed(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    containers.engine.pause(container_id)
    containers.engine.kill(container_id, signal.SIGKILL)
    assert containers.engine.wait(container_id, time.monotonic_ns() + 50_000_000) is None
    containers.engine.resume(container_id)
    assert containers.engine.wait(container_id) == 128 + signal.SIGKILL


def test_a_frozen_container_can_be_removed_by_force(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    containers.engine.pause(container_id)
    with pytest.raises(StateConflict):
        containers.engine.delete(container_id)
    containers.engine.delete(container_id, force=True)
