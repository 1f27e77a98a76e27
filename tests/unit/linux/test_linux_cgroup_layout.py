"""Cgroup layouts are told from mountinfo."""

from __future__ import annotations

import pytest

from lab.linux import capabilities, libc
from lab.linux.cgroup import layout
from lab.linux.cgroup.layout import CgroupKind

V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_SYSTEMD = "40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd"
V2 = "41 31 0:38 / /no/such/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate"
OTHER = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw"


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ((OTHER, V1_CPU, V1_SYSTEMD), CgroupKind.LEGACY),
        ((OTHER, V1_CPU, V2), CgroupKind.HYBRID),
        ((OTHER, V2), CgroupKind.UNIFIED),
    ],
)
def test_the_kind_follows_from_what_is_mounted(lines: tuple[str, ...], kind: CgroupKind) -> None:
    assert layout.parse(lines).kind == kind


def test_controllers_that_are_mounted_together_share_a_hierarchy() -> None:
    found = layout.parse((V1_CPU, V1_SYSTEMD))
    assert found.hierarchy("cpu") == found.hierarchy("cpuacct")
    assert found.select(("cpu", "cpuacct", "memory")) == (found.hierarchy("cpu"),)
    assert found.version("memory") is None


def test_a_named_hierarchy_has_no_controllers() -> None:
    assert layout.parse((V1_SYSTEMD,)).hierarchies[0].controllers == ()


def test_a_second_mount_of_the_same_hierarchy_is_not_counted() -> None:
    again = V1_CPU.replace("/sys/fs/cgroup/cpu,cpuacct", "/elsewhere")
    assert len(layout.parse((V1_CPU, again)).hierarchies) == 1


def test_a_mount_whose_source_is_empty_hides_no_hierarchy() -> None:
    empty = "67 45 0:39 / /mnt/nothing rw,relatime - tmpfs  rw\n"
    named = "68 45 0:41 / /sys/fs/cgroup/cpu rw,relatime - cgroup  rw,cpu\n"
    assert layout.parse((empty, named)).version("cpu") == 1


def test_capability_names_and_bits_are_each_others_inverse() -> None:
    assert capabilities.names(capabilities.mask(capabilities.NAMES)) == capabilities.NAMES
    assert capabilities.mask(("CAP_SYS_ADMIN",)) == 1 << 21


def test_a_failing_call_raises_errno_and_path() -> None:
    with pytest.raises(FileNotFoundError, match="umount2: No such file or directory: '/no/such'") as caught:
        libc.syscall("umount2", b"/no/such", 0, path="/no/such")
    assert caught.value.filename == "/no/such"
