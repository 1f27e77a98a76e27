"""Other processes of this host, as tests look at them."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator

from lab.linux import mount, process_cpu

_POLL_S = 0.01


def command_lines() -> Iterator[tuple[int, bytes]]:
    """Yield the pid and the arguments, each ended by NUL, of every process."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                yield int(name), file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue


def parent(pid: int) -> int:
    """Return a process's parent, 0 for one that has ended."""
    try:
        return process_cpu.read(pid).parent
    except ProcessLookupError:
        return 0


def wait_until(condition: Callable[[], object], *, within_s: float = 20) -> None:
    """Return once ``condition`` holds; fail after a while."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(_POLL_S)  # what is waited for is another process's doing


def unmount(directory: str) -> None:
    """Unmount what killed processes had open; one without a command line in /proc may still be closing its files."""

    def gone() -> bool:
        try:
            mount.umount2(directory, 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True

    wait_until(gone)
