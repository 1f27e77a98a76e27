"""Limits of containers that exist: what changes, what conflicts, and in which order the kernel is told."""

from __future__ import annotations

import pytest

from lab.container import resources
from lab.container.options import cgroups
from lab.container.options.run import RunOptions
from lab.container.spec.runtime import Cpu, DeviceRule, Memory, Pids, Resources
from lab.errors import SpecError, UnavailableError
from lab.linux.cgroup.layout import CgroupKind, CgroupLayout, Hierarchy

_MIB = 1 << 20
V1 = CgroupLayout(
    kind=CgroupKind.LEGACY,
    hierarchies=tuple(
        Hierarchy(version=1, mount_point=f"/sys/fs/cgroup/{name}", controllers=(name,))
        for name in ("cpu", "memory", "pids", "blkio", "devices")
    ),
)
V2 = CgroupLayout(
    kind=CgroupKind.UNIFIED,
    hierarchies=(
        Hierarchy(version=2, mount_point="/sys/fs/cgroup", controllers=("cpu", "cpuset", "memory", "pids", "io")),
    ),
)
HOST = cgroups.HostLimits(cpus="0-1", mems="0")
OPTIONS = RunOptions(image="x")


def _lines(before: Resources, after: Resources, layout: CgroupLayout) -> list[tuple[str, str]]:
    return [(write.file, write.value) for write in resources.plan_update(before, after, layout)]


def test_only_what_changes_is_written_and_devices_never() -> None:
    before = Resources(pids=Pids(limit=5), cpu=Cpu(shares=7), devices=(DeviceRule(allow=True),))
    after = Resources(pids=Pids(limit=6), cpu=Cpu(shares=7), devices=(DeviceRule(allow=False),))
    assert _lines(before, after, V1) == [("pids.max", "6")]


def test_v1_is_told_the_sum_first_when_memory_grows_and_last_when_it_shrinks() -> None:
    small, large = (Resources(memory=Memory(limit=n * _MIB, swap=2 * n * _MIB)) for n in (32, 64))
    assert [file for file, _ in _lines(small, large, V1)] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    assert [file for file, _ in _lines(large, small, V1)] == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


def test_every_memory_limit_has_its_file_where_the_version_has_one() -> None:
    after = Resources(memory=Memory(reservation=9, swappiness=10, disable_oom_killer=True))
    soft = [("memory.soft_limit_in_bytes", "9"), ("memory.swappiness", "10"), ("memory.oom_control", "1")]
    assert _lines(Resources(), after, V1) == soft
    assert _lines(Resources(), after, V2) == [("memory.low", "9")]


def test_a_limit_without_controller_is_refused_before_anything_is_done() -> None:
    with pytest.raises(UnavailableError, match="cpuset"):
        resources.require(Resources(cpu=Cpu(cpus="0")), V1)


def test_memory_may_not_outgrow_memory_and_swap_together() -> None:
    small = RunOptions(image="x", memory_bytes=32 * _MIB)
    assert cgroups.updated(small, {"memory_bytes": 64 * _MIB}).memory_swap_bytes == 64 * _MIB
    with pytest.raises(SpecError, match="update the memoryswap at the same time"):
        cgroups.updated(small, {"memory_bytes": 65 * _MIB})
    assert cgroups.updated(small, {"memory_bytes": 65 * _MIB, "memory_swap_bytes": -1}).memory_swap_bytes == -1


@pytest.mark.parametrize(
    ("options", "changes", "reason"),
    [
        (RunOptions(image="x", cpus=1.0), {"cpu_quota_us": 5}, "CPU Quota cannot be updated as NanoCPUs"),
        (RunOptions(image="x", cpu_period_us=5), {"cpus": 1.0}, "NanoCPUs cannot be updated as CPU Period"),
    ],
)
def test_processors_are_limited_in_one_way_only(options: RunOptions, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        cgroups.updated(options, changes)


def test_a_new_weight_leaves_the_rates_of_devices() -> None:
    options = RunOptions(image="x", block_io=("device-read-bps=/dev/x:1",))
    assert cgroups.updated(options, {"block_io": ("blkio-weight=20",)}).block_io == (
        "device-read-bps=/dev/x:1",
        "blkio-weight=20",
    )


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"cpuset_cpus": "0-2"}, "Requested CPUs are not available - requested 0-2, available: 0-1"),
        ({"cpuset_mems": "1"}, "Requested memory nodes are not available - requested 1, available: 0"),
        ({"cpuset_cpus": "0,x"}, "Invalid value 0,x for cpuset cpus"),
        ({"cpuset_cpus": "-1"}, "Invalid value -1 for cpuset cpus"),
        ({"memory_reservation_bytes": 1}, "Minimum memory reservation allowed is 6MB"),
        ({"memory_bytes": 8 * _MIB, "memory_reservation_bytes": 9 * _MIB}, "can not be less than memory reservation"),
        ({"memory_swappiness": 101}, "Valid memory swappiness range is 0-100"),
    ],
)
def test_a_limit_that_cannot_be_is_refused_with_the_reason(flags: dict[str, object], reason: str) -> None:
    with pytest.raises(SpecError, match=reason):
        cgroups.resources(RunOptions(image="x", **flags), HOST)  # type: ignore[arg-type]


def test_a_weight_that_the_kernel_does_not_know_is_left_out_with_a_warning() -> None:
    options = RunOptions(image="x", block_io=("blkio-weight=300",))
    weighing = cgroups.HostLimits(weighs_block_io=True)
    assert cgroups.resources(options, HOST).block_io.weight is None
    assert "Weight discarded" in cgroups.warnings(options, HOST)[0]
    assert cgroups.resources(options, weighing).block_io.weight == 300
    assert _lines(Resources(), cgroups.resources(options, weighing), V2) == [("io.bfq.weight", "300")]
    assert cgroups.warnings(options, weighing) == ()
