"""CPU time of any process: its own by its CPU clock, that of the children it has waited for from /proc/PID/stat.

Source: clock_getcpuclockid(3), proc_pid_stat(5); a process's CPU clock is the number that
include/linux/posix-timers_types.h makes of its pid.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_CPUCLOCK_SCHED = 2
_NS_PER_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_AFTER_COMMAND = 2  # the number of the first field that follows the command's name, as proc_pid_stat(5) counts, less 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCpu:
    """``own_ns``: of all its threads, those that ended included. ``reaped_ns``: of children that it has waited for.

    ``own_ns`` has the scheduler's resolution, ``reaped_ns`` the 10 ms of the kernel's ticks.
    """

    parent: int
    own_ns: int
    reaped_ns: int

    @property
    def total_ns(self) -> int:
        """Both together."""
        return self.own_ns + self.reaped_ns


def read(pid: int) -> ProcessCpu:
    """Return the CPU time of process ``pid`` so far.

    Raises:
        ProcessLookupError: it is gone.
    """
    try:
        own_ns = time.clock_gettime_ns((~pid << 3) | _CPUCLOCK_SCHED)
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
    except OSError as error:  # EINVAL, ENOENT or ESRCH, by the moment at which it ended
        raise ProcessLookupError(error.errno, "no such process", f"/proc/{pid}") from error
    parent, reaped_ns = parse_stat(text)
    return ProcessCpu(parent=parent, own_ns=own_ns, reaped_ns=reaped_ns)


def parse_stat(text: str) -> tuple[int, int]:
    """Return from a stat file the parent's pid, and the CPU time of children that were waited for."""
    fields = text.rpartition(")")[2].split()  # a command's name may hold anything, parentheses too
    parent, user, system = (int(fields[number - _AFTER_COMMAND - 1]) for number in (4, 16, 17))
    return parent, (user + system) * _NS_PER_TICK


def read_all() -> dict[int, ProcessCpu]:
    """Return the CPU time of every process that there is now, by pid."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found[int(name)] = read(int(name))
            except ProcessLookupError:
                continue
    return found
