"""Interface files below /proc, typed; only what psutil lacks or gives without units.

Each reader has a parser beside it that takes the file's text, so that the parsers are tested without the kernel.
Source: proc(5), Documentation/filesystems/proc.rst, Documentation/accounting/psi.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

_PROC = "/proc"
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_NS_PER_TICK = 1_000_000_000 // _TICKS_PER_S
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmapsRollup:
    """Sums over the mappings of one process, in bytes. ``uss`` is what only this process has mapped."""

    rss_bytes: int
    pss_bytes: int
    pss_anon_bytes: int
    pss_file_bytes: int
    pss_shmem_bytes: int
    uss_bytes: int
    swap_pss_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTimes:
    """Time of all processors since boot, summed; ticks of 10 ms are the kernel's resolution."""

    user_ns: int
    system_ns: int
    idle_ns: int
    iowait_ns: int
    interrupt_ns: int
    steal_ns: int

    @property
    def busy_ns(self) -> int:
        """Time in which some processor worked for this machine (steal is the hypervisor's)."""
        return self.user_ns + self.system_ns + self.interrupt_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """Total stall time since boot: of at least one task (``some``), of all non-idle ones (``full``)."""

    some_ns: int
    full_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAverage:
    """Load averages, and the tasks that are runnable at this instant (the reader included)."""

    one_minute: float
    five_minutes: float
    fifteen_minutes: float
    runnable: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedStat:
    """What the scheduler counted for one process's main thread."""

    run_ns: int
    wait_ns: int
    timeslices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MountEntry:
    """One line of mountinfo; ``options`` are the mount's, ``super_options`` those of the file system."""

    mount_point: str
    fs_type: str
    source: str
    options: str
    super_options: str


def smaps_rollup(pid: int) -> SmapsRollup:
    """Return the memory sums of process ``pid``.

    Raises:
        ProcessLookupError: it is gone, or has no memory of its own (a zombie, a kernel thread).
        PermissionError: it is another user's.
    """
    return parse_smaps_rollup(_read(f"{pid}/smaps_rollup"))


def parse_smaps_rollup(text: str) -> SmapsRollup:
    """Return the sums of a smaps_rollup file.

    Raises:
        ProcessLookupError: the file is empty, as it is for a zombie.
    """
    fields = _kilobyte_fields(text)
    if "Rss" not in fields:
        raise ProcessLookupError("no memory map")
    private = fields["Private_Clean"] + fields["Private_Dirty"] + fields.get("Private_Hugetlb", 0)
    return SmapsRollup(
        rss_bytes=fields["Rss"],
        pss_bytes=fields["Pss"],
        # split since Linux 5.9; all of it counts as anonymous where the kernel cannot tell
        pss_anon_bytes=fields.get("Pss_Anon", fields["Pss"]),
        pss_file_bytes=fields.get("Pss_File", 0),
        pss_shmem_bytes=fields.get("Pss_Shmem", 0),
        uss_bytes=private,
        swap_pss_bytes=fields.get("SwapPss", 0),
    )


def meminfo() -> dict[str, int]:
    """Return /proc/meminfo: name to bytes (counts, such as HugePages_Total, as they are)."""
    return parse_meminfo(_read("meminfo"))


def parse_meminfo(text: str) -> dict[str, int]:
    """Return the fields of a meminfo file: name to bytes."""
    return _kilobyte_fields(text)


def cpu_times() -> CpuTimes:
    """Return the time of all processors since boot."""
    return parse_cpu_times(_read("stat"))


def parse_cpu_times(text: str) -> CpuTimes:
    """Return the first line of a stat file, in nanoseconds."""
    ticks = [int(field) for field in text.split("\n", 1)[0].split()[1:]]
    user, nice, system, idle, iowait, irq, softirq, steal = (ticks + [0] * 8)[:8]
    return CpuTimes(
        user_ns=(user + nice) * _NS_PER_TICK,
        system_ns=system * _NS_PER_TICK,
        idle_ns=idle * _NS_PER_TICK,
        iowait_ns=iowait * _NS_PER_TICK,
        interrupt_ns=(irq + softirq) * _NS_PER_TICK,
        steal_ns=steal * _NS_PER_TICK,
    )


def pressure(resource: str) -> Pressure | None:
    """Return the stall time of "cpu", "io" or "memory"; None where the kernel does not account for it (psi=0)."""
    try:
        return parse_pressure(_read(f"pressure/{resource}"))
    except OSError:  # no such file, or EOPNOTSUPP: compiled in but turned off
        return None


def parse_pressure(text: str) -> Pressure:
    """Return the totals of a pressure file."""
    totals = {}
    for line in text.splitlines():
        kind, *fields = line.split()
        totals[kind] = int(dict(field.split("=") for field in fields)["total"]) * 1000
    return Pressure(some_ns=totals.get("some", 0), full_ns=totals.get("full", 0))


def refresh_vm_counters() -> None:
    """Make meminfo and vmstat exact: each processor otherwise keeps its latest changes to itself for a second.

    Source: Documentation/admin-guide/sysctl/vm.rst, "stat_refresh".

    Raises:
        PermissionError: the caller is not root.
        FileNotFoundError: the kernel has no such file (built without SMP or before Linux 4.7).
    """
    _read("sys/vm/stat_refresh")


def vmstat() -> dict[str, int]:
    """Return /proc/vmstat: counter name to value since boot (pages or events)."""
    return {name: int(value) for name, value in (line.split() for line in _read("vmstat").splitlines())}


def load_average() -> LoadAverage:
    """Return the load averages and the number of runnable tasks."""
    return parse_load_average(_read("loadavg"))


def parse_load_average(text: str) -> LoadAverage:
    """Return the fields of a loadavg file."""
    one, five, fifteen, running, _ = text.split()
    runnable, tasks = running.split("/")
    return LoadAverage(
        one_minute=float(one),
        five_minutes=float(five),
        fifteen_minutes=float(fifteen),
        runnable=int(runnable),
        tasks=int(tasks),
    )


def schedstat(pid: int) -> SchedStat:
    """Return what the scheduler counted for ``pid``.

    Raises:
        ProcessLookupError: it is gone.
        FileNotFoundError: the kernel does not count (no CONFIG_SCHED_INFO).
    """
    run_ns, wait_ns, timeslices = (int(field) for field in _read(f"{pid}/schedstat").split())
    return SchedStat(run_ns=run_ns, wait_ns=wait_ns, timeslices=timeslices)


def cpuinfo() -> dict[str, str]:
    """Return the fields of the first processor in /proc/cpuinfo."""
    return parse_cpuinfo(_read("cpuinfo"))


def processor_is_emulated(fields: Mapping[str, str]) -> bool:
    """Return whether the fields of a processor say that software carries out its instructions one by one.

    Source: qemu target/i386/cpu.c, the model name of ``-cpu max`` without an accelerator.
    """
    return fields.get("model name", "").startswith("QEMU TCG CPU")


def parse_cpuinfo(text: str) -> dict[str, str]:
    """Return the fields of the first block of a cpuinfo file."""
    block = text.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def mountinfo() -> tuple[MountEntry, ...]:
    """Return the mounts of this process's mount namespace, in the kernel's order (later ones lie on top)."""
    return parse_mountinfo(_read("self/mountinfo"))


def mountinfo_of(pid: int) -> tuple[MountEntry, ...]:
    """Return the mounts of the mount namespace of ``pid`` as that process sees them, in the kernel's order.

    Raises:
        ProcessLookupError: it is gone.
    """
    return parse_mountinfo(_read(f"{pid}/mountinfo"))


def parse_mountinfo(text: str) -> tuple[MountEntry, ...]:
    """Return the entries of a mountinfo file; octal escapes in paths are undone."""
    entries = []
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        entries.append(
            MountEntry(
                mount_point=_unescape(fields[4]),
                fs_type=tail[0],
                source=_unescape(tail[1]),
                options=fields[5],
                super_options=tail[2] if len(tail) > 2 else "",
            )
        )
    return tuple(entries)


def cgroup_memberships(pid: int) -> dict[str, str]:
    """Return where ``pid`` is: controller (or "name=…", "" for v2) to path below that hierarchy's root.

    Raises:
        ProcessLookupError: it is gone.
    """
    memberships = {}
    for line in _read(f"{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        memberships.update(dict.fromkeys(controllers.split(","), path))
    return memberships


def pid_namespace_members(pid: int) -> tuple[int, ...]:
    """Return the pids of all processes in the pid namespace of ``pid`` that this user may look at, sorted.

    Raises:
        ProcessLookupError: it is gone.
        PermissionError: it is another user's.
    """
    try:
        namespace = os.readlink(f"{_PROC}/{pid}/ns/pid")
    except FileNotFoundError:
        raise ProcessLookupError(3, "no such process", f"{_PROC}/{pid}") from None
    return tuple(sorted(int(name) for name in os.listdir(_PROC) if name.isdigit() and _is_in(name, namespace)))


def _is_in(pid: str, namespace: str) -> bool:
    try:
        return os.readlink(f"{_PROC}/{pid}/ns/pid") == namespace
    except OSError:  # it has ended, or is another user's
        return False


def _kilobyte_fields(text: str) -> dict[str, int]:
    fields = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        parts = value.split()
        if separator and parts and parts[0].isdigit():
            fields[name] = int(parts[0]) * (1024 if parts[1:] == ["kB"] else 1)
    return fields


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def _read(name: str) -> str:
    # a process that ends while it is being read gives ESRCH; one that ended before gives ENOENT: one meaning
    try:
        with open(f"{_PROC}/{name}", encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError as error:
        pid = name.split("/", 1)[0]
        if pid.isdigit() and not os.path.exists(f"{_PROC}/{pid}"):
            raise ProcessLookupError(error.errno, "no such process", f"{_PROC}/{pid}") from error
        raise
