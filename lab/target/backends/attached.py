"""A program of the host that stands for a target's main command: its standard output is the ready channel.

What all peers have in common: `runc run`, `docker start --attach` and the like pass the payload's output through.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Mapping, Sequence

from lab.container.output import Drain, Tail
from lab.errors import TargetError, TargetTimeout
from lab.linux import command
from lab.target.spec import MarkName, MarkSink, TargetSpec
from lab.units import format_duration_ns

_CHUNK_BYTES = 65536
_MESSAGE_LINES = 10


class Attached:
    """One attached program; its errors are read away from the start, its output from the ready byte on."""

    def __init__(
        self, argv: Sequence[str], *, backend: str, drain: Drain, env: Mapping[str, str] | None = None
    ) -> None:
        """Start ``argv``.

        Raises:
            FileNotFoundError: no such program.
        """
        self._backend = backend
        self._drain = drain
        self._output, self._errors = Tail(), Tail()
        stdout, output = os.pipe()
        stderr, errors = os.pipe()
        try:
            self._process = command.spawn(argv, stdout=output, stderr=errors, env=env)
        except OSError:
            os.close(stdout)
            os.close(stderr)
            raise
        finally:
            os.close(output)
            os.close(errors)
        self._stdout = stdout
        drain.add(stderr, self._errors)

    @property
    def pid(self) -> int:
        """The program's pid."""
        return self._process.pid

    def await_ready(self, spec: TargetSpec, marks: MarkSink) -> None:
        """Return when the main command has given its first byte (mark READY), or at once when it is a service.

        Raises:
            TargetError: it ended first.
            TargetTimeout: neither happened within ``spec.start_timeout_ns``.
        """
        try:
            if spec.service_port is None:
                self._output.append(self._first_bytes(spec.start_timeout_ns))
                marks(MarkName.READY, None)
        except TimeoutError:
            after = format_duration_ns(spec.start_timeout_ns)
            message = f"no ready byte after {after}{self.last_lines()}"
            raise TargetTimeout(message, backend=self._backend, phase="start") from None
        except EOFError:
            code = self._process.wait()
            message = f"{spec.command.argv[0]} ended with code {code} before it was ready{self.last_lines()}"
            raise TargetError(message, backend=self._backend, phase="start") from None
        finally:
            self._drain.add(self._stdout, self._output)

    def _first_bytes(self, timeout_ns: int) -> bytes:
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        if not poll.poll(timeout_ns / 1e6):
            raise TimeoutError
        data = os.read(self._stdout, _CHUNK_BYTES)
        if not data:
            raise EOFError
        return data

    def is_alive(self) -> bool:
        """Return whether the program has not ended yet."""
        return self._process.poll() is None

    def wait(self, deadline_ns: int) -> bool:
        """Wait for the program's end, at most until ``deadline_ns`` (CLOCK_MONOTONIC); return whether it has ended."""
        if self._process.poll() is not None:
            return True
        pidfd = os.pidfd_open(self._process.pid)
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(max(0, deadline_ns - time.monotonic_ns()) / 1e6)
        finally:
            os.close(pidfd)
        return self._process.poll() is not None

    def kill(self) -> None:
        """Kill the program and reap it."""
        self._process.kill()
        self._process.wait()

    def last_lines(self) -> str:
        """Return the end of what the program wrote, as the end of a message; "" when it wrote nothing."""
        lines = (self._errors.text + self._output.text).splitlines()[-_MESSAGE_LINES:]
        return "; its last lines: " + " | ".join(lines) if lines else ""
