"""What a running container uses: readings of its cgroup and its network, and what two of them say together.

Source: docs.docker.com/reference/cli/docker/container/stats, and the way in which its client computes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lab.linux import procfs
from lab.linux.cgroup import usage
from lab.linux.cgroup.layout import CgroupLayout

_UNLIMITED_BYTES = 1 << 62  # v1 writes "no limit" as the largest number of whole pages


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What a link has carried since it was made, each way: bytes, packets, and packets that were wrong or dropped."""

    received_bytes: int
    received_packets: int
    received_errors: int
    received_dropped: int
    sent_bytes: int
    sent_packets: int
    sent_errors: int
    sent_dropped: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a container has used until now; ``host_cpu_ns`` is what all processors have spent, idle or not.

    ``memory_bytes`` is without the file pages that the kernel would give up first; ``memory_limit_bytes`` is the host's
    memory where there is no limit. Network and disk count from the container's start; ``links`` are those of its own
    network by name, without the loopback. ``cpu`` and ``memory`` are the kernel's own counters, where it has any.
    """

    cpu_ns: int = 0
    host_cpu_ns: int = 0
    memory_bytes: int = 0
    memory_limit_bytes: int = 0
    links: Mapping[str, Traffic] = field(default_factory=dict)
    read_bytes: int = 0
    written_bytes: int = 0
    tasks: int = 0
    tasks_limit: int | None = None
    cpu: usage.CpuUsage | None = None
    memory: usage.MemoryUsage | None = None

    @property
    def received_bytes(self) -> int:
        """What all links have received."""
        return sum(link.received_bytes for link in self.links.values())

    @property
    def sent_bytes(self) -> int:
        """What all links have sent."""
        return sum(link.sent_bytes for link in self.links.values())

    @property
    def memory_ratio(self) -> float:
        """Memory in proportion to what it may have."""
        return self.memory_bytes / self.memory_limit_bytes if self.memory_limit_bytes else 0.0


def cpu_ratio(first: Reading, second: Reading, cpus: int) -> float:
    """Return the processors' worth of time used between two readings, on a host with so many: 0.0 to ``cpus``."""
    own, host = second.cpu_ns - first.cpu_ns, second.host_cpu_ns - first.host_cpu_ns
    return own / host * cpus if own > 0 and host > 0 else 0.0


def read(layout: CgroupLayout, cgroup: str, pid: int) -> Reading:
    """Return what a container has used; ``pid`` is the process whose network is its own, 0 where none is."""
    cpu = _cpu(layout, cgroup)
    memory = _memory(layout, cgroup)
    io = _io(layout, cgroup)
    tasks = _directory(layout, "pids", cgroup)
    return Reading(
        cpu_ns=0 if cpu is None else cpu.usage_ns,
        host_cpu_ns=_host_cpu_ns(),
        memory_bytes=0 if memory is None else max(0, memory.usage_bytes - memory.inactive_file_bytes),
        memory_limit_bytes=0 if memory is None else _memory_limit(layout, cgroup),
        links=links_of(pid) if pid else {},
        read_bytes=0 if io is None else io.read_bytes,
        written_bytes=0 if io is None else io.written_bytes,
        tasks=(usage.pids(tasks) or 0) if tasks else 0,
        tasks_limit=usage.pids_limit(tasks) if tasks else None,
        cpu=cpu,
        memory=memory,
    )


def _directory(layout: CgroupLayout, controller: str, cgroup: str) -> str:
    """Return where a controller counts for a cgroup, "" on a host that has no such controller."""
    hierarchy = layout.hierarchy(controller)
    return "" if hierarchy is None else hierarchy.directory(cgroup)


def _cpu(layout: CgroupLayout, cgroup: str) -> usage.CpuUsage | None:
    time, quota, unified = (_directory(layout, name, cgroup) for name in ("cpuacct", "cpu", ""))
    if time:
        return usage.cpu_v1(time, quota or time)
    return usage.cpu_v2(unified) if unified else None


def _io(layout: CgroupLayout, cgroup: str) -> usage.IoUsage | None:
    disks, unified = (_directory(layout, name, cgroup) for name in ("blkio", ""))
    if disks:
        return usage.io_v1(disks)
    return usage.io_v2(unified) if unified else None


def _memory(layout: CgroupLayout, cgroup: str) -> usage.MemoryUsage | None:
    directory = _directory(layout, "memory", cgroup)
    if not directory:
        return None
    return usage.memory_v2(directory) if layout.version("memory") == 2 else usage.memory_v1(directory)


def _memory_limit(layout: CgroupLayout, cgroup: str) -> int:
    host = procfs.meminfo()["MemTotal"]
    limit = usage.memory_limit(_directory(layout, "memory", cgroup))
    return host if limit is None or limit >= _UNLIMITED_BYTES else min(limit, host)


def _host_cpu_ns() -> int:
    times = procfs.cpu_times()
    return times.busy_ns + times.idle_ns + times.iowait_ns


def links_of(pid: int) -> dict[str, Traffic]:
    """Return the links of a process's network but the loopback; none if it is gone."""
    try:
        with open(f"/proc/{pid}/net/dev", encoding="ascii") as file:
            return parse_links(file.read().splitlines()[2:])
    except OSError:
        return {}


def parse_links(lines: Sequence[str]) -> dict[str, Traffic]:
    """Return the links but the loopback in the lines of a net/dev file that are about links.

    Source: man proc_pid_net(5): eight numbers are about what was received, the next eight about what was sent.
    """
    split = ((name.strip(), rest.split()) for name, _, rest in (line.partition(":") for line in lines))
    return {name: _traffic([int(number) for number in numbers]) for name, numbers in split if name != "lo"}


def _traffic(numbers: Sequence[int]) -> Traffic:
    received, sent = numbers[:4], numbers[8:12]
    return Traffic(
        received_bytes=received[0],
        received_packets=received[1],
        received_errors=received[2],
        received_dropped=received[3],
        sent_bytes=sent[0],
        sent_packets=sent[1],
        sent_errors=sent[2],
        sent_dropped=sent[3],
    )


def processors() -> int:
    """Return the number of the host's processors that are online."""
    return os.sysconf("SC_NPROCESSORS_ONLN")
