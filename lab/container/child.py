"""One process that the spawner has made or adopted: what is known of it, and what becomes of it."""

from __future__ import annotations

import marshal
import os
import struct
import time

from lab.container import init, slumber, supervision, wire
from lab.linux import pidfd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container.health import Monitor
    from lab.container.supervision import Supervised

_SIGKILL = 9
_MACHINE_FAILURE = struct.Struct("=Ii")


class Child:
    """A process on its way to exec, or beyond."""

    __slots__ = (
        "detached",
        "engine",
        "execution",
        "frames",
        "listeners",
        "listing",
        "monitor",
        "pid",
        "pidfd",
        "reply",
        "spawned_ns",
        "status",
        "supervised",
        "table",
    )

    def __init__(self, pid: int, pidfd: int, *, status: int, reply: int, engine: int, detached: bool) -> None:
        """Know a process that has just been cloned, or found."""
        self.spawned_ns = time.monotonic_ns()
        self.pid = pid
        self.pidfd = pidfd
        self.status = status  # -1 once the exec has happened or failed
        self.reply = reply
        self.engine = engine
        self.detached = detached
        self.frames = bytearray()
        self.listing = ""
        self.execution: tuple[str, str] | None = None  # as in ``messages``
        self.table = b""  # what the machine's failures mean, marshalled
        self.supervised: Supervised | None = None
        self.monitor: Monitor | None = None
        self.listeners: list[int] = []  # reply pipes of those who are attached

    @property
    def is_only_kept(self) -> bool:
        """Whether nothing is lost if whoever looks after it begins anew, by what is on disk, as another's successor."""
        if self.supervised is None or self.status >= 0 or self.listing or self.monitor is not None:
            return False
        replies = (reply for reply in (self.reply, *self.listeners) if reply >= 0)
        return self.supervised.is_only_kept and not any(map(slumber.has_reader, replies))


def reap(child: Child) -> int:
    """Take the exit code of a process that has ended: 128 and the signal's number for one that a signal ended."""
    try:
        status = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    except ChildProcessError:  # adopted: it is another's child
        code = pidfd.exit_code(child.pidfd, child.pid)
        return supervision.LOST_CODE if code is None else code
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def parse_frames(frames: bytearray, table: bytes) -> tuple[list[tuple[bytes, int]], wire.Message | None]:
    """Return the marks that a child has written on its way to exec, and why it came no further, or None.

    ``table`` is what the assembler says of the machine's failures, marshalled.
    """
    marks: list[tuple[bytes, int]] = []
    offset = 0
    while offset + init.FRAME.size <= len(frames):
        kind, value = init.FRAME.unpack_from(frames, offset)
        offset += init.FRAME.size
        told = bytes(frames[offset : offset + value]) if kind in (init.FAILED, init.MACHINE_FAILED) else b""
        if kind == init.FAILED:
            return marks, marshal.loads(told)
        if kind == init.MACHINE_FAILED:
            return marks, _machine_failure(told, table)
        marks.append((kind, value))
    return marks, None


def _machine_failure(told: bytes, table: bytes) -> wire.Message:
    number, errno = _MACHINE_FAILURE.unpack_from(told)
    words, _, path = told[_MACHINE_FAILURE.size :].decode(errors="surrogateescape").partition("\0")
    step, call, reasons, known_path = marshal.loads(table)[number]
    return (step, errno, init.explain(errno, words, call, reasons), path or known_path)


def give_up(child: Child, step: str, error: OSError) -> None:
    """End a start that fails on our side; a child that has ended by itself knows the reason better."""
    if os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
        return
    kill(child)
    child.frames += init.failure(step, error)


def kill(child: Child) -> None:
    """Send SIGKILL to a process; one that has ended is no error."""
    try:
        pidfd.pidfd_send_signal(child.pidfd, _SIGKILL)
    except ProcessLookupError:
        return
