"""Files below /proc, as kernels of different ages and hosts of different kinds write them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.linux import procfs

ROLLUP = """5627ed243000-7ffe6ea36000 ---p 00000000 00:00 0                          [rollup]
Rss:                1704 kB
Pss:                 260 kB
Pss_Dirty:           112 kB
Pss_Anon:            112 kB
Pss_File:            148 kB
Pss_Shmem:             0 kB
Shared_Clean:       1552 kB
Shared_Dirty:          0 kB
Private_Clean:        40 kB
Private_Dirty:       112 kB
Referenced:         1704 kB
Anonymous:           112 kB
AnonHugePages:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:    2048 kB
Swap:                  0 kB
SwapPss:               4 kB
Locked:                0 kB
"""
KIB = 1024


def without(text: str, *names: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith(names))


def test_a_process_memory_is_told_in_bytes_and_split_by_what_backs_it() -> None:
    found = procfs.parse_smaps_rollup(ROLLUP)
    assert (found.rss_bytes, found.pss_bytes, found.swap_pss_bytes) == (1704 * KIB, 260 * KIB, 4 * KIB)
    assert found.pss_anon_bytes + found.pss_file_bytes + found.pss_shmem_bytes == found.pss_bytes
    assert found.uss_bytes == (40 + 112 + 2048) * KIB


def test_before_linux_5_9_all_of_it_counts_as_anonymous() -> None:
    found = procfs.parse_smaps_rollup(without(ROLLUP, "Pss_", "SwapPss", "Private_Hugetlb"))
    assert (found.pss_anon_bytes, found.pss_file_bytes, found.pss_shmem_bytes) == (260 * KIB, 0, 0)
    assert (found.uss_bytes, found.swap_pss_bytes) == (152 * KIB, 0)


def test_a_zombies_empty_file_means_that_there_is_no_process() -> None:
    with pytest.raises(ProcessLookupError):
        procfs.parse_smaps_rollup("")


def test_memory_of_the_host_is_in_bytes_and_counts_stay_counts() -> None:
    text = (
        "MemTotal:       24683656 kB\nHugePages_Total:       3\nVmallocTotal:   34359738367 kB\nDirectMap1G:    0 kB\n"
    )
    found = procfs.parse_meminfo(text + "not a field\nName: words\n")
    assert found == {
        "MemTotal": 24683656 * KIB, "HugePages_Total": 3, "VmallocTotal": 34359738367 * KIB, "DirectMap1G": 0,
    }  # fmt: skip


def test_cpu_time_is_that_of_all_processors_in_nanoseconds() -> None:
    tick_ns = 10**9 // os.sysconf("SC_CLK_TCK")
    found = procfs.parse_cpu_times("cpu  350582 459 76192 163536 3671 4 1673 2650 7 8\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    assert found.user_ns == (350582 + 459) * tick_ns
    assert (found.system_ns, found.idle_ns, found.iowait_ns) == (76192 * tick_ns, 163536 * tick_ns, 3671 * tick_ns)
    assert (found.interrupt_ns, found.steal_ns) == (1677 * tick_ns, 2650 * tick_ns)
    assert found.busy_ns == found.user_ns + found.system_ns + found.interrupt_ns  # steal is somebody else's


def test_a_kernel_that_knows_no_steal_has_none() -> None:
    assert procfs.parse_cpu_times("cpu 1 2 3 4\n").steal_ns == 0


@pytest.mark.parametrize(
    ("text", "some", "full"),
    [
        (
            "some avg10=39.94 avg60=70.30 avg300=65.79 total=1035466642\n"
            "full avg10=0.00 avg60=0.00 avg300=0.00 total=24426\n",
            1_035_466_642_000,
            24_426_000,
        ),
        ("some avg10=0.00 avg60=0.00 avg300=0.00 total=7\n", 7_000, 0),  # cpu, before Linux 5.13
        ("full avg10=0.00 avg60=0.00 avg300=0.00 total=9\n", 0, 9_000),  # irq
        ("", 0, 0),
    ],
)
def test_stall_time_is_in_nanoseconds(text: str, some: int, full: int) -> None:
    found = procfs.parse_pressure(text)
    assert (found.some_ns, found.full_ns) == (some, full)


def test_the_load_has_the_tasks_of_this_instant() -> None:
    found = procfs.parse_load_average("9.92 8.68 5.35 4/152 30408\n")
    assert (found.one_minute, found.five_minutes, found.fifteen_minutes) == (9.92, 8.68, 5.35)
    assert (found.runnable, found.tasks) == (4, 152)


def test_the_processor_is_the_first_one_and_values_keep_their_colons() -> None:
    text = "processor\t: 0\nmodel name\t: AMD EPYC: 7B13\npower management:\n\nprocessor\t: 1\nmodel name\t: other\n"
    assert procfs.parse_cpuinfo(text) == {"processor": "0", "model name": "AMD EPYC: 7B13", "power management": ""}


MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
41 31 0:38 /sub /mnt/with\040space\134and\011tab ro,nosuid master:2 propagate_from:1 - fuse.sshfs me@host:/a\040b rw
67 45 0:39 / /mnt/nothing rw - tmpfs  rw
68 45 0:40 / /mnt/none rw - tmpfs none
"""


def test_mounts_are_read_with_escapes_optional_fields_and_empty_sources() -> None:
    root, odd, empty, short = procfs.parse_mountinfo(MOUNTS)
    assert (root.mount_point, root.fs_type, root.source, root.super_options) == (
        "/", "ext4", "/dev/vda", "rw,errors=remount-ro",
    )  # fmt: skip
    assert (odd.mount_point, odd.source, odd.options) == ("/mnt/with space\\and\ttab", "me@host:/a b", "ro,nosuid")
    assert (empty.source, empty.super_options) == ("", "rw")
    assert (short.source, short.super_options) == ("none", "")


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1))
def test_any_mount_point_is_read_as_the_kernel_escaped_it(name: str) -> None:
    escaped = "".join(f"\\{ord(letter):03o}" if letter in " \t\n\\#" else letter for letter in name)
    (entry,) = procfs.parse_mountinfo(f"1 1 0:1 / /{escaped} rw - tmpfs none rw")
    assert entry.mount_point == f"/{name}"


def test_what_the_kernel_says_of_this_process_can_be_read() -> None:
    pid = os.getpid()
    assert procfs.smaps_rollup(pid).rss_bytes > 0
    assert procfs.schedstat(pid).run_ns > 0
    assert procfs.meminfo()["MemTotal"] > procfs.meminfo()["MemFree"] > 0
    assert procfs.load_average().tasks > 0
    assert procfs.vmstat()["pgfault"] > 0
    assert "/" in [entry.mount_point for entry in procfs.mountinfo()]
    assert all(path.startswith("/") for path in procfs.cgroup_memberships(pid).values())


def test_a_process_that_is_gone_is_no_such_process_whatever_is_asked() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    for ask in (procfs.smaps_rollup, procfs.schedstat, procfs.cgroup_memberships):
        with pytest.raises(ProcessLookupError):
            ask(pid)


def test_the_members_of_a_pid_namespace_are_found_from_one_of_them() -> None:
    members = procfs.pid_namespace_members(os.getpid())
    assert os.getpid() in members
    assert list(members) == sorted(members)


def test_a_pid_namespace_of_nobody_is_not_found() -> None:
    with pytest.raises(ProcessLookupError):
        procfs.pid_namespace_members(2**22 + 1)  # above the kernel's largest pid


@pytest.mark.parametrize(
    ("model", "emulated"), [("QEMU TCG CPU version 2.5+", True), ("AMD EPYC 7B13", False), ("QEMU Virtual CPU", False)]
)
def test_a_processor_of_software_is_known_by_the_name_that_its_emulator_gives_it(model: str, emulated: bool) -> None:
    assert procfs.processor_is_emulated({"model name": model}) is emulated


def test_a_processor_without_a_name_is_not_taken_for_emulated() -> None:
    assert not procfs.processor_is_emulated({})
