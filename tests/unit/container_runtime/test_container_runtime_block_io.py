"""Limits on block devices: from docker's flags to the kernel's lines, on either version of cgroups."""

from __future__ import annotations

import os
import re

import pytest

from lab.container import resources
from lab.container.options.block_io import block_io
from lab.container.spec import codec
from lab.container.spec.runtime import BlockIo, Resources, ThrottleDevice
from lab.errors import SpecError
from lab.linux.cgroup.layout import CgroupKind, CgroupLayout, Hierarchy

V1 = CgroupLayout(
    kind=CgroupKind.LEGACY,
    hierarchies=(Hierarchy(version=1, mount_point="/sys/fs/cgroup/blkio", controllers=("blkio",)),),
)
V2 = CgroupLayout(
    kind=CgroupKind.UNIFIED, hierarchies=(Hierarchy(version=2, mount_point="/sys/fs/cgroup", controllers=("io",)),)
)
NEITHER = CgroupLayout(kind=CgroupKind.LEGACY, hierarchies=())
LIMITS = Resources(
    block_io=BlockIo(
        throttle_read_bps_device=(ThrottleDevice(major=8, minor=0, rate=1000),),
        throttle_write_iops_device=(ThrottleDevice(major=8, minor=16, rate=7),),
    )
)


@pytest.mark.parametrize(
    ("layout", "lines"),
    [
        (V1, [("blkio.throttle.read_bps_device", "8:0 1000"), ("blkio.throttle.write_iops_device", "8:16 7")]),
        (V2, [("io.max", "8:0 rbps=1000"), ("io.max", "8:16 wiops=7")]),
        (NEITHER, []),
    ],
)
def test_each_rate_is_one_line(layout: CgroupLayout, lines: list[tuple[str, str]]) -> None:
    assert [(write.file, write.value) for write in resources.plan(LIMITS, layout)] == lines


def test_rates_that_no_controller_can_hold_are_named() -> None:
    assert resources.unenforceable(LIMITS, NEITHER) == ("io",)
    assert resources.unenforceable(LIMITS, V1) == resources.unenforceable(LIMITS, V2) == ()


def test_the_document_is_spelled_as_the_specification_does() -> None:
    document = codec.encode(LIMITS)
    assert set(document["blockIO"]) == {"throttleReadBpsDevice", "throttleWriteIOPSDevice"}
    assert codec.decode(Resources, document) == LIMITS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("device-read-bps=/dev/null:1mb", "/dev/null: not a block device"),
        ("device-read-bps=/no/such/disk:1mb", "/no/such/disk: No such file or directory"),
        ("device-read-bps=/dev/null:fast", "invalid rate for device: /dev/null:fast"),
        ("device-read-bps=1mb", "bad format: 1mb"),
    ],
)
def test_what_is_no_rate_of_a_disk_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SpecError, match=re.escape(reason)):
        block_io((text,))


def test_a_flag_finds_the_numbers_of_its_device() -> None:
    disk = next((f"/dev/{name}" for name in os.listdir("/sys/block") if os.path.exists(f"/dev/{name}")), None)
    if disk is None:
        pytest.skip("this host has no block device")
    found = os.stat(disk).st_rdev
    device = ThrottleDevice(major=os.major(found), minor=os.minor(found), rate=1 << 20)
    assert block_io((f"device-write-bps={disk}:1mb",)) == BlockIo(throttle_write_bps_device=(device,))
