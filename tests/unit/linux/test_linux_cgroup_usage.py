"""Counters of cgroups, from files as kernels 5.10 to 6.18 write them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.linux.cgroup import usage
from lab.linux.cgroup.layout import CgroupKind, CgroupLayout, Hierarchy, oom_counter

STAT_V1 = """cache 0
rss 0
shmem 0
mapped_file 0
inactive_file 0
hierarchical_memory_limit 9223372036854771712
hierarchical_memsw_limit 9223372036854771712
total_cache 63381504
total_rss 4096
total_shmem 8192
total_pgmajfault 546
total_inactive_file 5050368
total_active_file 58331136
"""
STAT_V2 = """anon 102400
file 63381504
kernel 12288
kernel_stack 4096
shmem 8192
inactive_file 5050368
active_file 58331136
pgmajfault 546
workingset_refault_file 44324
"""


@pytest.fixture
def cgroup(tmp_path: Path):
    """Return a function that writes interface files and gives their directory."""

    def make(**files: str) -> str:
        for name, text in files.items():
            (tmp_path / name.replace("__", ".")).write_text(text)
        return str(tmp_path)

    return make


def test_v1_counts_what_lies_below_as_well(cgroup) -> None:
    directory = cgroup(
        memory__usage_in_bytes="70000000\n", memory__stat=STAT_V1, memory__max_usage_in_bytes="80000000\n"
    )
    found = usage.memory_v1(directory)
    assert found == usage.MemoryUsage(
        usage_bytes=70_000_000, inactive_file_bytes=5_050_368, anon_bytes=4096, file_bytes=63_381_504,
        shmem_bytes=8192, major_faults=546, peak_bytes=80_000_000,
    )  # fmt: skip


def test_v1_kernels_without_shared_memory_in_their_statistics_have_none(cgroup) -> None:
    directory = cgroup(memory__usage_in_bytes="1\n", memory__stat=STAT_V1.replace("total_shmem 8192\n", ""))
    found = usage.memory_v1(directory)
    assert found is not None
    assert (found.shmem_bytes, found.peak_bytes) == (0, None)


def test_v2_has_its_peak_since_linux_5_19(cgroup) -> None:
    older = usage.memory_v2(cgroup(memory__current="70000000\n", memory__stat=STAT_V2))
    newer = usage.memory_v2(cgroup(memory__peak="80000000\n"))
    assert older is not None
    assert newer is not None
    assert (older.anon_bytes, older.file_bytes, older.shmem_bytes) == (102_400, 63_381_504, 8192)
    assert (older.peak_bytes, newer.peak_bytes) == (None, 80_000_000)


def test_cpu_time_of_v2_is_in_microseconds_and_of_v1_in_nanoseconds(cgroup) -> None:
    v2 = cgroup(
        cpu__stat="usage_usec 500\nuser_usec 400\nsystem_usec 100\nnr_periods 9\nnr_throttled 2\nthrottled_usec 7\n"
    )
    throttled = {"periods": 9, "throttled_periods": 2}
    assert usage.cpu_v2(v2) == usage.CpuUsage(
        usage_ns=500_000, throttled_ns=7_000, user_ns=400_000, system_ns=100_000, **throttled
    )
    v1 = cgroup(
        cpuacct__usage="4306571743932\n",
        cpuacct__stat="user 300\nsystem 20\n",
        cpu__stat="nr_periods 9\nnr_throttled 2\nthrottled_time 7\nnr_bursts 0\n",
    )
    tick_ns = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert usage.cpu_v1(v1, v1) == usage.CpuUsage(
        usage_ns=4_306_571_743_932, throttled_ns=7, user_ns=300 * tick_ns, system_ns=20 * tick_ns, **throttled
    )


def test_without_the_cpu_controller_v2_still_counts_time(cgroup) -> None:
    found = usage.cpu_v2(cgroup(cpu__stat="usage_usec 500226602\nuser_usec 1\nsystem_usec 1\nnice_usec 0\n"))
    assert found is not None
    assert (found.usage_ns, found.periods, found.throttled_ns) == (500_226_602_000, 0, 0)


def test_a_v1_cgroup_whose_cpu_hierarchy_is_elsewhere_counts_time_only(cgroup, tmp_path: Path) -> None:
    found = usage.cpu_v1(cgroup(cpuacct__usage="5\n"), str(tmp_path / "elsewhere"))
    assert found == usage.CpuUsage(usage_ns=5, periods=0, throttled_periods=0, throttled_ns=0)


IO_V2 = """8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353 dbytes=0 dios=0
8:0 rbytes=90430464 wbytes=299008000 rios=8950 wios=1252 dbytes=50331648 dios=3021 cost.usage=31
"""


def test_block_io_of_v2_is_summed_over_devices() -> None:
    found = usage.parse_io_v2(IO_V2)
    assert found == usage.IoUsage(read_bytes=91_889_664, written_bytes=613_781_504, reads=9142, writes=1605)


@pytest.mark.parametrize("text", ["", "252:0\n", "253:10 253:5 253:0 \n"])
def test_devices_without_counters_count_nothing(text: str) -> None:
    assert usage.parse_io_v2(text) == usage.IoUsage(read_bytes=0, written_bytes=0, reads=0, writes=0)


def test_devices_that_some_kernels_write_before_anothers_counters_are_no_counters() -> None:
    assert usage.parse_io_v2("253:10 253:5 8:0 rbytes=1 wbytes=2 rios=3 wios=4\n") == usage.IoUsage(
        read_bytes=1, written_bytes=2, reads=3, writes=4
    )


IO_V1 = """8:0 Read 90430464
8:0 Write 299008000
8:0 Sync 349339648
8:0 Async 40098816
8:0 Discard 0
8:0 Total 389438464
8:16 Read 1
8:16 Write 2
Total 389438467
"""


def test_block_io_of_v1_is_summed_over_devices_and_not_with_its_totals(cgroup) -> None:
    assert usage.parse_io_v1(IO_V1) == {"Read": 90_430_465, "Write": 299_008_002}
    assert usage.parse_io_v1("Total 0\n") == {"Read": 0, "Write": 0}
    directory = cgroup(
        blkio__throttle__io_service_bytes_recursive=IO_V1, blkio__throttle__io_serviced_recursive="Total 0\n"
    )
    assert usage.io_v1(directory) == usage.IoUsage(read_bytes=90_430_465, written_bytes=299_008_002, reads=0, writes=0)


devices = st.tuples(st.integers(0, 511), st.integers(0, 2**20))
counters = st.fixed_dictionaries({name: st.integers(0, 2**63) for name in ("rbytes", "wbytes", "rios", "wios")})


@given(st.dictionaries(devices, counters, max_size=5))
def test_any_number_of_devices_is_summed(found: dict[tuple[int, int], dict[str, int]]) -> None:
    lines = [
        f"{major}:{minor} " + " ".join(f"{name}={value}" for name, value in values.items())
        for (major, minor), values in found.items()
    ]
    sums = usage.parse_io_v2("\n".join(lines))
    assert sums.read_bytes == sum(values["rbytes"] for values in found.values())
    assert sums.writes == sum(values["wios"] for values in found.values())


def test_kills_for_want_of_memory_are_told_by_both_versions(cgroup) -> None:
    assert usage.oom_kills(cgroup(memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")) == 3
    assert usage.oom_kills(cgroup(memory__events="low 0\nhigh 0\nmax 6\noom 2\noom_kill 1\noom_group_kill 0\n")) == 1


def test_a_kernel_that_counts_no_kills_cannot_tell(cgroup) -> None:
    assert usage.oom_kills(cgroup(memory__oom_control="oom_kill_disable 0\nunder_oom 0\n")) is None


def test_a_controller_that_is_not_enabled_or_a_cgroup_that_is_gone_tells_nothing(tmp_path: Path) -> None:
    for directory in (str(tmp_path), str(tmp_path / "gone")):
        assert usage.memory_v1(directory) is None
        assert usage.memory_v2(directory) is None
        assert usage.cpu_v2(directory) is None
        assert usage.cpu_v1(directory, directory) is None
        assert usage.io_v1(directory) is None
        assert usage.io_v2(directory) is None
        assert usage.pids(directory) is None
        assert usage.oom_kills(directory) is None


def test_tasks_are_counted(cgroup) -> None:
    assert usage.pids(cgroup(pids__current="12\n")) == 12


@pytest.mark.parametrize(
    ("name", "text", "limit"),
    [
        ("memory.max", "67108864\n", 67108864),
        ("memory.max", "max\n", None),
        ("memory.limit_in_bytes", "9223372036854771712\n", 9223372036854771712),
        ("other", "", None),
    ],
)
def test_a_memory_limit_is_read_from_either_version(tmp_path: Path, name: str, text: str, limit: int | None) -> None:
    (tmp_path / name).write_text(text)
    assert usage.memory_limit(str(tmp_path)) == limit


def test_the_counter_of_kills_for_memory_is_where_the_controller_is() -> None:
    v1 = Hierarchy(version=1, mount_point="/m", controllers=("memory",))
    v2 = Hierarchy(version=2, mount_point="/u", controllers=("memory",))
    legacy = CgroupLayout(kind=CgroupKind.LEGACY, hierarchies=(v1,))
    unified = CgroupLayout(kind=CgroupKind.UNIFIED, hierarchies=(v2,))
    nothing = CgroupLayout(kind=CgroupKind.LEGACY, hierarchies=())
    assert oom_counter(legacy, "lab/x") == "/m/lab/x/memory.oom_control"
    assert oom_counter(unified, "lab/x") == "/u/lab/x/memory.events"
    assert oom_counter(nothing, "lab/x") == ""
