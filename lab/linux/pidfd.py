"""Processes by descriptor: no pid can be reused between looking and acting.

Opening and waiting are in the standard library (``os.pidfd_open``, ``os.waitid``); here is what it lacks, without its
``signal`` module, whose import costs the container start path milliseconds.
"""

from __future__ import annotations

import os
import select
import time

from lab.linux.libc import syscall

_SIGKILL = 9
_ENOENT, _ENODEV = 2, 19


def pidfd_send_signal(pidfd: int, signal: int) -> None:
    """Send a signal to the process of a pidfd; signal 0 only asks whether it is there.

    Raises:
        ProcessLookupError: it has ended.
        OSError: with errno and the pidfd.
    Source: man pidfd_send_signal(2).
    """
    syscall("pidfd_send_signal", pidfd, signal, None, 0, path=f"pidfd {pidfd}")


def pidfd_getfd(pidfd: int, number: int) -> int:
    """Return a copy of another process's descriptor, closed on exec.

    Raises:
        ProcessLookupError: it has ended.
        PermissionError: we may not trace it.
        OSError: with errno and the pidfd.
    Source: man pidfd_getfd(2).
    """
    return syscall("pidfd_getfd", pidfd, number, 0, path=f"pidfd {pidfd}")


def kill_listed(path: str, deadline_ns: int) -> None:
    """Kill every process that a cgroup.procs file lists, until it lists none, or CLOCK_MONOTONIC is ``deadline_ns``.

    Raises:
        OSError: with errno and path; a cgroup that has gone is none.
    """
    while time.monotonic_ns() < deadline_ns:
        try:
            with open(path, "rb") as file:
                pids = [int(word) for word in file.read().split()]
        except OSError as error:
            if error.errno in (_ENOENT, _ENODEV):  # gone, also between open and read
                return
            raise
        if not pids:
            return
        for pid in pids:
            _kill_and_wait(pid, deadline_ns)


def _kill_and_wait(pid: int, deadline_ns: int) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        pidfd_send_signal(descriptor, _SIGKILL)
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(max(0, deadline_ns - time.monotonic_ns()) / 1e6)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def start_time_ticks(pid: int) -> int:
    """Return when a process was started, in clock ticks since boot: with the pid, its identity until reboot.

    Raises:
        ProcessLookupError: there is no such process.
    Source: man proc_pid_stat(5), field 22.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return _started_ticks(file.read())
    except FileNotFoundError:
        raise ProcessLookupError(3, "no such process", f"/proc/{pid}") from None


def _started_ticks(stat: bytes) -> int:
    return int(stat.rpartition(b")")[2].split()[19])


def open_namespace(pid: int, started_ticks: int, name: str) -> int:
    """Return a descriptor of a namespace ("net", "mnt", ...) of the process that has this identity, and of no other.

    Raises:
        ProcessLookupError: it has ended.
        OSError: with errno and path.
    Source: man namespaces(7), "The /proc/pid/ns/ directory".
    """
    try:
        directory = os.open(f"/proc/{pid}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise ProcessLookupError(3, "no such process", f"/proc/{pid}") from None
    try:
        stat = os.open("stat", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
        with os.fdopen(stat, "rb") as file:
            if _started_ticks(file.read()) != started_ticks:
                raise ProcessLookupError(3, "no such process", f"/proc/{pid}")
        return os.open(f"ns/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    finally:
        os.close(directory)


_PIDFD_GET_INFO = 0xC040FF0B  # _IOWR(0xFF, 11, 64 bytes)
_PIDFD_INFO_EXIT = 1 << 3
_INFO_BYTES = 64


def exit_code(pidfd: int, pid: int) -> int | None:
    """Return how a process ended that was another's child: its exit code, or 128 and the signal.

    None where the kernel does not say: before Linux 6.15, once its parent has waited for it.
    Source: linux/include/uapi/linux/pidfd.h, PIDFD_GET_INFO; man proc_pid_stat(5), field 52, for a zombie.
    """
    status = _zombie_status(pid)
    if status is None or _has_been_waited_for(pidfd):  # then the pid may be another's by now
        status = _waited_status(pidfd)
    if status is None:
        return None
    return status >> 8 & 0xFF if not status & 0x7F else 128 + (status & 0x7F)


def _zombie_status(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(fields[49]) if fields[0] == b"Z" else None


def _has_been_waited_for(pidfd: int) -> bool:
    try:
        pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return True
    return False


def _waited_status(pidfd: int) -> int | None:
    information = bytearray(_PIDFD_INFO_EXIT.to_bytes(8, "little") + bytes(_INFO_BYTES - 8))
    try:
        syscall("ioctl", pidfd, _PIDFD_GET_INFO, information)
    except OSError:
        return None
    if not int.from_bytes(information[:8], "little") & _PIDFD_INFO_EXIT:
        return None
    return int.from_bytes(information[_INFO_BYTES - 4 :], "little")
