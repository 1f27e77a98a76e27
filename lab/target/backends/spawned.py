"""A target's programs that our spawner starts: the main one up to its ready byte, and others beside it.

What the arms whose programs come from the spawner have in common; where a program is put is the arm's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lab.container.output import Drain, communicate
from lab.container.spawner_client import Running, SpawnerDied, StartFailed, Stdio
from lab.errors import LabError, TargetError
from lab.target.backends.failures import took_too_long
from lab.target.backends.main_output import MainOutput, close
from lab.target.spec import Command, Execution, MarkName, MarkSink, TargetSpec

Launch = Callable[[Stdio], Running]
"""Start a program with these streams, which stay the caller's, and return once it runs."""

_NOT_FOUND = (126, 127)


class SpawnedProgram:
    """The programs of one target; it may be started again after its end."""

    def __init__(self, backend: str, spec: TargetSpec, marks: MarkSink, drain: Drain) -> None:
        """Start nothing yet; ``drain`` reads away what the main program writes once it is ready."""
        self._backend = backend
        self._spec = spec
        self._marks = marks
        self._output = MainOutput(backend, spec, marks, drain)

    def start(self, launch: Launch) -> None:
        """Launch the main program, emit its marks, and wait for its ready byte unless it is a service.

        Raises:
            TargetError: it could not be started, or ended before it was ready; the caller cleans up.
            TargetTimeout: no ready byte in time; likewise.
        """
        deadline_ns = time.monotonic_ns() + self._spec.start_timeout_ns
        try:
            with self._output.opened() as (stdout, stderr), _null() as null:
                running = launch(Stdio(stdin=null, stdout=stdout, stderr=stderr))
        except (LabError, OSError) as error:
            raise self.failure(str(error), "start") from error
        for name, at_ns in running.marks_ns:
            self._marks(MarkName(name), at_ns)
        self._output.await_ready(deadline_ns, running.wait)

    def exec(self, command: Command, launch: Launch) -> Execution:
        """Run a further program to its end; a missing one is exit code 127.

        Raises:
            TargetError: it could not be run at all.
            TargetTimeout: it did not end in time; it has been killed.
        """
        deadline_ns = time.monotonic_ns() + command.timeout_ns
        (stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        ours = (our_stdin, our_stdout, our_stderr)
        try:
            running = launch(Stdio(stdin=stdin, stdout=stdout, stderr=stderr))
        except StartFailed as failure:
            close(*ours)
            if failure.exit_code not in _NOT_FOUND:
                raise self.failure(str(failure), "exec") from failure
            return Execution(exit_code=failure.exit_code, stdout=b"", stderr=f"{failure}\n".encode())
        except (LabError, OSError) as error:
            close(*ours)
            raise self.failure(str(error), "exec") from error
        finally:
            close(stdin, stdout, stderr)
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
            raise took_too_long(command, backend=self._backend) from None
        except SpawnerDied as error:
            raise self.failure(str(error), "exec") from error
        finally:
            running.close()
        return Execution(exit_code=code, stdout=output, stderr=errors)

    def failure(self, message: str, phase: str) -> TargetError:
        """Return the error that says what failed, with the last lines that the main program wrote."""
        return self._output.failure(message, phase)


@contextmanager
def _null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
