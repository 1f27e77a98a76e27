"""What containers use and which processes they have: readings compared, files of the kernel and of ps parsed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cli.columns import align
from lab.cli.container_show import command_shown, ellipsis
from lab.container import processes, statistics
from lab.container.statistics import Reading
from lab.errors import ContainerError
from lab.linux import procfs
from lab.linux.cgroup.layout import CgroupKind, CgroupLayout, Hierarchy
from lab.units import format_binary_bytes

NET_DEV = """\
    lo: 1000     10    0    0    0     0          0         0  1000      10    0    0    0     0       0          0
  eth0: 646       7    0    0    0     0          0         0   516       6    0    0    0     0       0          0
  eth1:   4       1    0    0    0     0          0         0     5       1    0    0    0     0       0          0
"""


def test_one_processor_of_two_used_all_the_time_is_one_worth() -> None:
    before = Reading(cpu_ns=1_000, host_cpu_ns=10_000)
    after = Reading(cpu_ns=1_500, host_cpu_ns=11_000)
    assert statistics.cpu_ratio(before, after, cpus=2) == 1.0


def test_without_time_between_readings_nothing_was_used() -> None:
    reading = Reading(cpu_ns=5, host_cpu_ns=5)
    assert statistics.cpu_ratio(reading, reading, cpus=2) == 0.0


def test_a_cgroup_that_was_made_anew_between_readings_has_used_nothing() -> None:
    assert statistics.cpu_ratio(Reading(cpu_ns=9, host_cpu_ns=1), Reading(cpu_ns=1, host_cpu_ns=2), cpus=2) == 0.0


@given(st.integers(0, 10**9), st.integers(1, 10**12), st.integers(1, 64))
def test_never_more_is_used_than_there_is(own: int, host: int, cpus: int) -> None:
    ratio = statistics.cpu_ratio(Reading(), Reading(cpu_ns=min(own, host), host_cpu_ns=host), cpus)
    assert 0.0 <= ratio <= cpus


def test_memory_is_told_in_proportion_to_its_limit() -> None:
    assert Reading(memory_bytes=25, memory_limit_bytes=100).memory_ratio == 0.25
    assert Reading().memory_ratio == 0.0


def test_the_loopback_is_no_traffic() -> None:
    links = statistics.parse_links(NET_DEV.splitlines())
    reading = Reading(links=links)
    assert (reading.received_bytes, reading.sent_bytes) == (650, 521)
    assert {name: (each.received_packets, each.sent_packets) for name, each in links.items()} == {
        "eth0": (7, 6),
        "eth1": (1, 1),
    }


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (340 << 10, "340KiB"),
        (64 << 20, "64MiB"),
        (25276063744, "23.54GiB"),
        (1536, "1.5KiB"),
    ],
)
def test_memory_is_written_as_docker_writes_it(size_bytes: int, text: str) -> None:
    assert format_binary_bytes(size_bytes) == text


PS = """\
UID          PID    PPID  C STIME TTY          TIME CMD
root           1       0  0 08:00 ?        00:00:01 /sbin/init
root          42       1  0 08:00 ?        00:00:00 sh -c sleep 1 ; true
root         142       1  0 08:00 ?        00:00:00 [kthreadd]
"""


def test_only_processes_of_the_container_are_shown_with_their_whole_command() -> None:
    heading, *rows = processes.select(PS, (42,))
    assert heading[1] == "PID"
    assert rows == [["root", "42", "1", "0", "08:00", "?", "00:00:00", "sh -c sleep 1 ; true"]]


def test_without_pids_nothing_can_be_told_apart() -> None:
    with pytest.raises(ContainerError, match="Couldn't find PID field in ps output"):
        processes.select("COMMAND\nsh\n", (42,))


def test_columns_of_processes_are_twenty_wide() -> None:
    assert align("PID\tCOMMAND\n1\tsh\n", width_min=20) == "PID                 COMMAND\n1                   sh\n"


@pytest.mark.parametrize(
    ("args", "whole", "shown"),
    [
        (("true",), False, '"true"'),
        (("sleep", "1000"), False, '"sleep 1000"'),
        (("sh", "-c", "while :; do :; done"), False, '"sh -c \'while :; do …"'),
        (("sh", "-c", "while :; do :; done"), True, "\"sh -c 'while :; do :; done'\""),
        (("echo", 'a"b\n'), True, '"echo a\\"b\\n"'),
    ],
)
def test_commands_are_quoted_as_docker_quotes_them(args: tuple[str, ...], whole: bool, shown: str) -> None:
    assert command_shown(args, whole=whole) == shown


@given(st.text(), st.integers(1, 30))
def test_a_cut_text_is_no_wider_and_says_that_it_was_cut(text: str, width: int) -> None:
    cut = ellipsis(text, width)
    assert len(cut) <= width
    assert cut == text or cut.endswith("…")


STAT_V1 = "total_inactive_file 1024\ntotal_rss 1\ntotal_cache 1\ntotal_pgmajfault 0\n"
STAT_V2 = "anon 1\nfile 1\nshmem 0\ninactive_file 1024\npgmajfault 0\n"


def make_layout(root: Path, version: int, controllers: dict[str, dict[str, str]]) -> CgroupLayout:
    """Return a layout whose hierarchies are directories with these files in the cgroup lab/x."""
    hierarchies = []
    for names, files in controllers.items():
        mount_point = root / names.replace(",", "-")
        (mount_point / "lab" / "x").mkdir(parents=True)
        for name, text in files.items():
            (mount_point / "lab" / "x" / name).write_text(text)
        hierarchies.append(
            Hierarchy(version=version, mount_point=str(mount_point), controllers=tuple(names.split(",")))
        )
    kind = CgroupKind.UNIFIED if version == 2 else CgroupKind.LEGACY
    return CgroupLayout(kind=kind, hierarchies=tuple(hierarchies))


def test_a_reading_is_taken_where_the_controllers_of_v1_are(tmp_path: Path) -> None:
    disk = "8:0 Read 4096\n8:0 Write 512\nTotal 4608\n"
    layout = make_layout(
        tmp_path,
        1,
        {
            "cpu,cpuacct": {"cpuacct.usage": "7000\n", "cpu.stat": ""},
            "memory": {
                "memory.usage_in_bytes": "5120\n",
                "memory.stat": STAT_V1,
                "memory.limit_in_bytes": "8192\n",
            },
            "blkio": {
                "blkio.throttle.io_service_bytes_recursive": disk,
                "blkio.throttle.io_serviced_recursive": disk,
            },
            "pids": {"pids.current": "3\n"},
        },
    )
    reading = statistics.read(layout, "lab/x", 0)
    assert (reading.cpu_ns, reading.memory_bytes, reading.memory_limit_bytes) == (7000, 4096, 8192)
    assert (reading.read_bytes, reading.written_bytes, reading.tasks) == (4096, 512, 3)
    assert reading.memory_ratio == 0.5


def test_a_reading_is_taken_from_the_one_hierarchy_of_v2(tmp_path: Path) -> None:
    layout = make_layout(
        tmp_path,
        2,
        {
            "cpu,memory,io,pids": {
                "cpu.stat": "usage_usec 7\nuser_usec 7\nsystem_usec 0\n",
                "memory.current": "5120\n",
                "memory.stat": STAT_V2,
                "memory.max": "max\n",
                "io.stat": "8:0 rbytes=4096 wbytes=512 rios=1 wios=1\n",
                "pids.current": "3\n",
            }
        },
    )
    reading = statistics.read(layout, "lab/x", 0)
    assert (reading.cpu_ns, reading.memory_bytes, reading.tasks) == (7000, 4096, 3)
    assert (reading.read_bytes, reading.written_bytes) == (4096, 512)
    assert reading.memory_limit_bytes == procfs.meminfo()["MemTotal"]


def test_without_cgroups_nothing_is_known_but_what_the_host_spends() -> None:
    reading = statistics.read(CgroupLayout(kind=CgroupKind.LEGACY, hierarchies=()), "lab/x", 0)
    assert reading == Reading(host_cpu_ns=reading.host_cpu_ns)
    assert reading.host_cpu_ns > 0
