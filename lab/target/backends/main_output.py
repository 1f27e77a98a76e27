"""What a target's main command writes: its first byte says that it is ready, its last lines say why it failed.

For every arm whose main command writes into pipes of ours; what a guest writes comes through ``vm/console.py``.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.container.output import Drain, Tail
from lab.errors import LabError, TargetError, TargetTimeout
from lab.target.spec import MarkName, MarkSink, TargetSpec
from lab.units import format_duration_ns

_CHUNK_BYTES = 65536
_MESSAGE_LINES = 10


class MainOutput:
    """Standard output and error of one target's main command, from one start to the next."""

    def __init__(self, backend: str, spec: TargetSpec, marks: MarkSink, drain: Drain) -> None:
        """Open nothing yet; ``drain`` reads away what comes after the ready byte."""
        self._backend = backend
        self._spec = spec
        self._marks = marks
        self._drain = drain
        self._output, self._errors = Tail(), Tail()
        self._stdout = self._stderr = -1

    @contextmanager
    def opened(self) -> Iterator[tuple[int, int]]:
        """Give the ends that the main command writes to, for the block in which it is started.

        What it writes waits for ``await_ready``, which has to follow.
        """
        self._output, self._errors = Tail(), Tail()
        self._stdout, output = os.pipe()
        self._stderr, errors = os.pipe()
        try:
            yield output, errors
        except BaseException:
            close(self._stdout, self._stderr)
            raise
        finally:
            close(output, errors)

    def await_ready(self, deadline_ns: int, wait: Callable[[int], int | None]) -> None:
        """Return when the first byte has come (mark READY), or at once when the command is a service.

        ``wait`` returns the command's exit code, or None when it still runs at its argument (CLOCK_MONOTONIC).

        Raises:
            TargetError: it ended first.
            TargetTimeout: neither happened by ``deadline_ns``.
        """
        try:
            if self._spec.service_port is None:
                self._output.append(self._first_bytes(deadline_ns))
                self._marks(MarkName.READY, None)
        except TimeoutError:
            after = format_duration_ns(self._spec.start_timeout_ns)
            message = f"no ready byte after {after}{self._last()}"
            raise TargetTimeout(message, backend=self._backend, phase="start") from None
        except EOFError:
            raise self._end(wait, deadline_ns) from None
        finally:
            self._drain.add(self._stdout, self._output)
            self._drain.add(self._stderr, self._errors)

    def _first_bytes(self, deadline_ns: int) -> bytes:
        poll = select.poll()
        poll.register(self._stdout, select.POLLIN)
        poll.register(self._stderr, select.POLLIN)
        while ready := dict(poll.poll(max(0, deadline_ns - time.monotonic_ns()) / 1e6)):
            if self._stderr in ready and not self._read_errors():
                poll.unregister(self._stderr)
            if self._stdout in ready:
                if data := os.read(self._stdout, _CHUNK_BYTES):
                    return data
                raise EOFError
        raise TimeoutError

    def _read_errors(self) -> bool:
        """Keep what there is of the errors; False at their end."""
        data = os.read(self._stderr, _CHUNK_BYTES)
        self._errors.append(data)
        return bool(data)

    def _end(self, wait: Callable[[int], int | None], deadline_ns: int) -> TargetError:
        try:
            code = wait(deadline_ns)
        except LabError as error:
            return self.failure(str(error), "start")
        os.set_blocking(self._stderr, False)  # what it left running may hold the other end
        with contextlib.suppress(BlockingIOError):
            while self._read_errors():
                pass
        ended = "closed its output" if code is None else f"ended with code {code}"
        return self.failure(f"{self._spec.command.argv[0]} {ended} before it was ready", "start")

    def failure(self, message: str, phase: str) -> TargetError:
        """Return the error that says what failed, with the last lines that the main command wrote."""
        return TargetError(message + self._last(), backend=self._backend, phase=phase)

    def _last(self) -> str:
        lines = (self._errors.text + self._output.text).splitlines()[-_MESSAGE_LINES:]
        return "; its last lines: " + " | ".join(lines) if lines else ""


def close(*descriptors: int) -> None:
    """Close descriptors."""
    for descriptor in descriptors:
        os.close(descriptor)
