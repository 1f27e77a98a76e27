"""The counters of one cgroup directory, typed, for v1 and v2; limits are written elsewhere.

A v1 directory belongs to one hierarchy, so each reader takes the directory of the controller it reads; a v2
directory has them all. A reader returns None where the directory does not have the file (controller not enabled).
Source: Documentation/admin-guide/cgroup-v1/, Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUsage:
    """What is charged to a cgroup and those below it: page cache and kernel memory included."""

    usage_bytes: int
    inactive_file_bytes: int
    anon_bytes: int
    file_bytes: int
    shmem_bytes: int
    major_faults: int
    peak_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUsage:
    """CPU time of a cgroup and those below it, of it in programs and in the kernel, and what its quota held back."""

    usage_ns: int
    periods: int
    throttled_periods: int
    throttled_ns: int
    user_ns: int = 0
    system_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class IoUsage:
    """Bytes and operations that reached block devices, summed over devices."""

    read_bytes: int
    written_bytes: int
    reads: int
    writes: int


def memory_v2(directory: str) -> MemoryUsage | None:
    """Return the memory counters of a v2 directory."""
    usage, stat = _number(directory, "memory.current"), _flat(directory, "memory.stat")
    if usage is None or stat is None:
        return None
    return MemoryUsage(
        usage_bytes=usage,
        inactive_file_bytes=stat["inactive_file"],
        anon_bytes=stat["anon"],
        file_bytes=stat["file"],
        shmem_bytes=stat["shmem"],
        major_faults=stat["pgmajfault"],
        peak_bytes=_number(directory, "memory.peak"),  # since Linux 5.19
    )


def memory_v1(directory: str) -> MemoryUsage | None:
    """Return the memory counters of a directory of the v1 memory hierarchy; the ``total_`` ones count below too."""
    usage, stat = _number(directory, "memory.usage_in_bytes"), _flat(directory, "memory.stat")
    if usage is None or stat is None:
        return None
    return MemoryUsage(
        usage_bytes=usage,
        inactive_file_bytes=stat["total_inactive_file"],
        anon_bytes=stat["total_rss"],
        file_bytes=stat["total_cache"],
        shmem_bytes=stat.get("total_shmem", 0),
        major_faults=stat["total_pgmajfault"],
        peak_bytes=_number(directory, "memory.max_usage_in_bytes"),
    )


def memory_limit(directory: str) -> int | None:
    """Return the limit in bytes of a cgroup of either version; None without one, where v1 gives a huge number."""
    text = _text(directory, "memory.max") or _text(directory, "memory.limit_in_bytes") or "max"
    return None if text.strip() == "max" else int(text)


def cpu_v2(directory: str) -> CpuUsage | None:
    """Return the CPU counters of a v2 directory; the throttling ones are 0 where the controller is not enabled."""
    stat = _flat(directory, "cpu.stat")
    if stat is None or "usage_usec" not in stat:
        return None
    return CpuUsage(
        usage_ns=stat["usage_usec"] * 1000,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_usec", 0) * 1000,
        user_ns=stat.get("user_usec", 0) * 1000,
        system_ns=stat.get("system_usec", 0) * 1000,
    )


def cpu_v1(cpuacct_directory: str, cpu_directory: str) -> CpuUsage | None:
    """Return the CPU counters of a v1 cgroup: time from the cpuacct hierarchy, throttling from the cpu one.

    The two directories are the same where the hierarchies are mounted together.
    """
    usage = _number(cpuacct_directory, "cpuacct.usage")
    if usage is None:
        return None
    stat, modes = (_flat(*file) or {} for file in ((cpu_directory, "cpu.stat"), (cpuacct_directory, "cpuacct.stat")))
    return CpuUsage(
        usage_ns=usage,
        periods=stat.get("nr_periods", 0),
        throttled_periods=stat.get("nr_throttled", 0),
        throttled_ns=stat.get("throttled_time", 0),
        user_ns=modes.get("user", 0) * _TICK_NS,
        system_ns=modes.get("system", 0) * _TICK_NS,
    )


def oom_kills(directory: str) -> int | None:
    """Return how many processes of a cgroup the kernel has killed because its memory limit was reached.

    ``directory`` is a v2 one, where those below count as well, or one of the v1 memory hierarchy.
    """
    events = _flat(directory, "memory.events") or _flat(directory, "memory.oom_control")
    return None if events is None else events.get("oom_kill")  # v1 tells since Linux 4.13


def pids(directory: str) -> int | None:
    """Return the number of tasks in a cgroup and those below it; the file is the same in v1 and v2."""
    return _number(directory, "pids.current")


def pids_limit(directory: str) -> int | None:
    """Return how many tasks there may be in a cgroup and those below it, None without a limit."""
    text = (_text(directory, "pids.max") or "max").strip()
    return None if text == "max" else int(text)


def io_v2(directory: str) -> IoUsage | None:
    """Return the block IO counters of a v2 directory."""
    text = _text(directory, "io.stat")
    return None if text is None else parse_io_v2(text)


def parse_io_v2(text: str) -> IoUsage:
    """Return the sums over the devices of an io.stat file."""
    sums = {"rbytes": 0, "wbytes": 0, "rios": 0, "wios": 0}
    for line in text.splitlines():
        for field in line.split()[1:]:
            name, _, value = field.partition("=")
            if name in sums:
                sums[name] += int(value)
    return IoUsage(read_bytes=sums["rbytes"], written_bytes=sums["wbytes"], reads=sums["rios"], writes=sums["wios"])


def io_v1(directory: str) -> IoUsage | None:
    """Return the block IO counters of a directory of the v1 blkio hierarchy."""
    size = _text(directory, "blkio.throttle.io_service_bytes_recursive")
    count = _text(directory, "blkio.throttle.io_serviced_recursive")
    if size is None or count is None:
        return None
    bytes_by, count_by = parse_io_v1(size), parse_io_v1(count)
    return IoUsage(
        read_bytes=bytes_by["Read"],
        written_bytes=bytes_by["Write"],
        reads=count_by["Read"],
        writes=count_by["Write"],
    )


def parse_io_v1(text: str) -> dict[str, int]:
    """Return the sums over devices of a blkio file, by "Read" and "Write"."""
    sums = {"Read": 0, "Write": 0}
    for line in text.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[1] in sums:
            sums[fields[1]] += int(fields[2])
    return sums


def _flat(directory: str, name: str) -> dict[str, int] | None:
    text = _text(directory, name)
    if text is None:
        return None
    return {key: int(value) for key, value in (line.split() for line in text.splitlines())}


def _number(directory: str, name: str) -> int | None:
    text = _text(directory, name)
    return None if text is None else int(text)


def _text(directory: str, name: str) -> str | None:
    try:
        with open(os.path.join(directory, name), encoding="ascii") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        # the cgroup was removed between open and read
        if error.errno == errno.ENODEV:
            return None
        raise
