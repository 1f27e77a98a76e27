"""Find the processes of one execution again, whoever started them: by a variable that their environment inherits.

A peer's `exec` client can be killed, and what it started inside lives on; this is how that is found and killed too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterable

_VARIABLE = "LAB_EXECUTION"
_GRACE_NS = 10_000_000_000
_POLL_S = 0.005


def new_mark() -> str:
    """Return an environment line that no other execution has."""
    return f"{_VARIABLE}={uuid.uuid4().hex}"


def kill_marked(mark: str, processes: Callable[[], Iterable[int]]) -> None:
    """Kill those of ``processes()`` that carry ``mark``, until none does.

    Raises:
        TimeoutError: some would not die.
    """
    deadline_ns = time.monotonic_ns() + _GRACE_NS
    while marked := [pid for pid in processes() if _carries(pid, mark)]:
        if time.monotonic_ns() > deadline_ns:
            raise TimeoutError(f"processes {marked} do not die")
        for pid in marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_POLL_S)  # they may be many, and forking meanwhile: look again rather than wait for each


def _carries(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return mark.encode() in file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False
