"""A program that our spawner starts for a target: its streams, its ready byte, programs run beside it.

What the arms whose programs come from the spawner have in common; where the program is put is the arm's own.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.container.output import Drain, Tail, communicate
from lab.container.spawner_client import Running, SpawnerDied, StartFailed, Stdio
from lab.errors import LabError, TargetError, TargetTimeout
from lab.target.spec import Command, Execution, MarkName, MarkSink, TargetSpec
from lab.units import format_duration_ns

Launch = Callable[[Stdio], Running]
"""Start a program with these streams, which stay the caller's, and return once it runs."""

_NOT_FOUND = (126, 127)
_MESSAGE_LINES = 10
_CHUNK_BYTES = 65536


@dataclass(frozen=True, slots=True)
class _Pipe:
    """Both ends of a pipe."""

    reading: int
    writing: int


class SpawnedProgram:
    """The main program of one target, from its launch to its ready byte."""

    def __init__(self, backend: str, spec: TargetSpec, marks: MarkSink, drain: Drain) -> None:
        """Start nothing yet; ``drain`` reads away what the program writes once it is ready."""
        self._backend = backend
        self._spec = spec
        self._marks = marks
        self._drain = drain
        self._output = Tail()
        self._errors = Tail()

    def start(self, launch: Launch) -> Running:
        """Launch the program, emit its marks, and wait for its ready byte unless it is a service.

        Raises:
            TargetError: it could not be started, or ended before it was ready; the caller cleans up.
            TargetTimeout: no ready byte in time; likewise.
        """
        deadline_ns = time.monotonic_ns() + self._spec.start_timeout_ns
        output, errors = _pipe(), _pipe()
        try:
            with _null() as null:
                running = launch(Stdio(stdin=null, stdout=output.writing, stderr=errors.writing))
        except (LabError, OSError) as error:
            _close(output.reading, errors.reading)
            raise self.failure(str(error), "start") from error
        finally:
            _close(output.writing, errors.writing)
        self._drain.add(errors.reading, self._errors)
        for name, at_ns in running.marks_ns:
            self._marks(MarkName(name), at_ns)
        try:
            if self._spec.service_port is None:
                self._await_ready(running, output.reading, deadline_ns)
        finally:
            self._drain.add(output.reading, self._output)
        return running

    def _await_ready(self, running: Running, output: int, deadline_ns: int) -> None:
        poll = select.poll()
        poll.register(output, select.POLLIN)
        if not poll.poll(max(0, deadline_ns - time.monotonic_ns()) / 1e6):
            after = format_duration_ns(self._spec.start_timeout_ns)
            raise TargetTimeout(f"no ready byte after {after}{self._last()}", backend=self._backend, phase="start")
        data = os.read(output, _CHUNK_BYTES)
        if not data:
            code = running.wait(deadline_ns)
            ended = "closed its output" if code is None else f"ended with code {code}"
            raise self.failure(f"the main command {ended} before it was ready", "start")
        self._marks(MarkName.READY, None)
        self._output.append(data)

    def exec(self, command: Command, launch: Launch) -> Execution:
        """Run a further program to its end; a missing one is exit code 127.

        Raises:
            TargetError: it could not be run at all.
            TargetTimeout: it did not end in time; it has been killed.
        """
        deadline_ns = time.monotonic_ns() + command.timeout_ns
        stdin, stdout, stderr = _pipe(), _pipe(), _pipe()
        ours = (stdin.writing, stdout.reading, stderr.reading)
        try:
            running = launch(Stdio(stdin=stdin.reading, stdout=stdout.writing, stderr=stderr.writing))
        except StartFailed as failure:
            _close(*ours)
            if failure.exit_code not in _NOT_FOUND:
                raise self.failure(str(failure), "exec") from failure
            return Execution(exit_code=failure.exit_code, stdout=b"", stderr=f"{failure}\n".encode())
        except (LabError, OSError) as error:
            _close(*ours)
            raise self.failure(str(error), "exec") from error
        finally:
            _close(stdin.reading, stdout.writing, stderr.writing)
        return self._communicate(running, command, ours, deadline_ns)

    def _communicate(
        self, running: Running, command: Command, ours: tuple[int, int, int], deadline_ns: int
    ) -> Execution:
        stdin, stdout, stderr = ours
        try:
            code, output, errors = communicate(
                running, stdin=stdin, stdout=stdout, stderr=stderr, data=command.stdin, deadline_ns=deadline_ns
            )
        except TimeoutError:
            after = format_duration_ns(command.timeout_ns)
            message = f"{command.argv[0]} did not end within {after}; it has been killed"
            raise TargetTimeout(message, backend=self._backend, phase="exec") from None
        except SpawnerDied as error:
            raise self.failure(str(error), "exec") from error
        finally:
            running.close()
        return Execution(exit_code=code, stdout=output, stderr=errors)

    def failure(self, message: str, phase: str) -> TargetError:
        """Return the error that says what failed, with the last lines that the program wrote."""
        return TargetError(message + self._last(), backend=self._backend, phase=phase)

    def _last(self) -> str:
        lines = (self._errors.text + self._output.text).splitlines()[-_MESSAGE_LINES:]
        return "; its last lines: " + " | ".join(lines) if lines else ""


def _pipe() -> _Pipe:
    return _Pipe(*os.pipe())


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


@contextmanager
def _null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
