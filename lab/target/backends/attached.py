"""A program of the host that stands for a target's main command: its standard output is the ready channel.

What all peers have in common: `runc run`, `docker start --attach` and the like pass the payload's output through.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence

from lab.linux import command
from lab.target.backends.main_output import MainOutput


class Attached:
    """One attached program, which passes a target's ``MainOutput`` through."""

    def __init__(self, argv: Sequence[str], output: MainOutput, *, env: Mapping[str, str] | None = None) -> None:
        """Start ``argv``.

        Raises:
            FileNotFoundError: no such program.
        """
        self._output = output
        with output.opened() as (stdout, stderr):
            self._process = command.spawn(argv, stdout=stdout, stderr=stderr, env=env)

    @property
    def pid(self) -> int:
        """The program's pid."""
        return self._process.pid

    def await_ready(self, deadline_ns: int) -> None:
        """Wait for the main command's ready byte; what it raises is said at ``MainOutput.await_ready``."""
        self._output.await_ready(deadline_ns, self.wait)

    def is_alive(self) -> bool:
        """Return whether the program has not ended yet."""
        return self._process.poll() is None

    def wait(self, deadline_ns: int) -> int | None:
        """Return the program's exit code, None when it has not ended by ``deadline_ns`` (CLOCK_MONOTONIC)."""
        if self._process.poll() is None:
            pidfd = os.pidfd_open(self._process.pid)
            try:
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                poll.poll(max(0, deadline_ns - time.monotonic_ns()) / 1e6)
            finally:
                os.close(pidfd)
        return self._process.poll()

    def kill(self) -> None:
        """Kill the program and reap it."""
        self._process.kill()
        self._process.wait()
