"""QEMU as a process of its own, which outlives the command that started it: begun, found again, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time

from lab.errors import DomainError, UnavailableError
from lab.linux import command
from lab.testbed.machine import Machine, argv
from lab.units import NS_PER_S

_START_S = 60.0
_END_NS = 20 * NS_PER_S
_POLL_S = 0.02
_SHOWN_LINES = 15


def start(machine: Machine, *, arriving: bool = False) -> None:
    """Start QEMU; it has its sockets when this returns.

    Raises:
        UnavailableError: there is no QEMU.
        DomainError: it refused.
    """
    try:
        done = command.run(argv(machine, arriving=arriving), timeout_s=_START_S)
    except FileNotFoundError as error:
        raise UnavailableError(f"{error.filename} is missing", hint="apt install qemu-system-x86") from error
    except TimeoutError as error:
        raise DomainError(f"the testbed's machine does not start: {error}") from error
    if done.exit_code:
        raise DomainError(f"the testbed's machine does not start: {done.error_text or 'QEMU does not say why'}")


def pid_of(machine_directory: str) -> int | None:
    """Return the pid of the QEMU whose files lie in this directory; None if none runs."""
    try:
        with open(os.path.join(machine_directory, "qemu.pid"), encoding="ascii") as file:
            pid = int(file.read())
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            is_ours = f"unix:{machine_directory}/".encode() in file.read()  # a pid may be another's after a reboot
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return pid if is_ours else None


def end(machine_directory: str) -> None:
    """End the QEMU of this directory, if one runs, and wait until it has gone.

    Raises:
        DomainError: it does not end.
    """
    pid = pid_of(machine_directory)
    if pid is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)  # nothing of it is kept: its disk goes as well
    wait_for_end(machine_directory, deadline_ns=time.monotonic_ns() + _END_NS)


def wait_for_end(machine_directory: str, *, deadline_ns: int) -> None:
    """Wait until the QEMU of this directory has gone.

    Raises:
        DomainError: it has not by ``deadline_ns`` (CLOCK_MONOTONIC).
    """
    while (pid := pid_of(machine_directory)) is not None:
        if time.monotonic_ns() > deadline_ns:
            raise DomainError(f"the testbed's QEMU, process {pid}, does not end", hint=f"kill -9 {pid}")
        time.sleep(_POLL_S)


def last_lines(machine: Machine) -> str:
    """Return what the machine's kernel said last, for messages; "" when it said nothing."""
    try:
        with open(machine.console, encoding="utf-8", errors="replace") as file:
            lines = [line.rstrip() for line in file if line.strip()]
    except FileNotFoundError:
        return ""
    panic = next((number for number, line in enumerate(lines) if "Kernel panic" in line), len(lines))
    lines = lines[: panic + 1][-_SHOWN_LINES:]  # what follows it is the kernel's stack
    return "".join(f"\n  {line}" for line in ("last lines of its console:", *lines)) if lines else ""
