"""Whether a container works: its check, run again and again by the shared spawner, and what came of it.

Two files of the container's directory, each one marshalled tuple, each replaced whole:

    check    what is run, how and when: ``CheckFields``; written by the command that starts the container
    health   (status, failures in a row, ((start, end, exit code, output), ...)): ``Health``; the last results come
             last, start and end are nanoseconds since the epoch, output is bytes, the exit code -1 after a timeout

So a reader sees one state of things, and a spawner that follows one that was killed goes on with it. A container
without check has neither; one that has ended keeps what was found last.

This file is imported by the spawner: nothing heavy here.
Source: docs.docker.com/reference/dockerfile, HEALTHCHECK; github.com/moby/moby, daemon/health.go.
"""

from __future__ import annotations

import errno
import marshal
import os
import signal
import time

from lab.container import messages, supervision, wire

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs milliseconds on the container start path
    from collections.abc import Callable

    from lab.container.loop import Loop

    Result = tuple[int, int, int, bytes]
    """When it began and ended (time of day in ns), exit code, output."""
    CheckFields = tuple[bytes, str, tuple[str, str], int, int, int, int, int, str]
    """Encoded plan; v2 cgroup to be born in or ""; the freezer's file and what it says of a frozen container; interval,
    timeout, start period and interval in it (ns); failures in a row until it is unhealthy; what is done then, as in
    ``ON_FAILURE``."""
    Launch = Callable[[bytes, str, int, int], None]
    """Run an encoded plan in the container: plan, cgroup, descriptors for output and answers (both stay ours)."""

HEALTH_FILE = "health"
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
ON_FAILURE = ("none", "kill", "restart", "stop")
RESULTS = 5
OUTPUT_BYTES = 4096
TIMED_OUT, NOT_STARTED = -1, 126
_CUT = b"..."
_WE_LACK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)  # which is no fault of the container


class Check:
    """What is run, how and when; the fields are those of ``CheckFields``, in order."""

    __slots__ = (
        "cgroup",
        "freezer",
        "interval_ns",
        "on_failure",
        "plan",
        "retries",
        "start_interval_ns",
        "start_period_ns",
        "timeout_ns",
    )

    def __init__(self, fields: CheckFields) -> None:
        (
            self.plan,
            self.cgroup,
            self.freezer,
            self.interval_ns,
            self.timeout_ns,
            self.start_period_ns,
            self.start_interval_ns,
            self.retries,
            self.on_failure,
        ) = fields

    def delay_ns(self, health: Health, since_start_ns: int) -> int:
        """Return how long after the last run, or the start, the next one comes."""
        is_starting = health.status == STARTING and since_start_ns < self.start_period_ns
        return self.start_interval_ns if is_starting else self.interval_ns

    def is_frozen(self) -> bool:
        """Return whether the container stands still: then there is nothing to find out."""
        path, frozen = self.freezer
        try:
            return bool(path) and supervision.read_text(path).strip() == frozen
        except OSError:  # the cgroup is gone, or going
            return False


class Health:
    """What is known: a status, how many checks in a row have failed, and the last results."""

    __slots__ = ("failing_streak", "results", "status")

    def __init__(self, status: str = STARTING, failing_streak: int = 0, results: tuple[Result, ...] = ()) -> None:
        self.status = status
        self.failing_streak = failing_streak
        self.results = results

    def after(self, result: Result, check: Check, started_ns: int) -> Health:
        """Return what is known when one more result has come, of a container that was started at ``started_ns``."""
        results = (*self.results, result)[-RESULTS:]
        if result[2] == 0:
            return Health(HEALTHY, 0, results)
        if self.status == STARTING and result[0] - started_ns < check.start_period_ns:
            return Health(STARTING, self.failing_streak, results)
        streak = self.failing_streak + 1
        return Health(UNHEALTHY if streak >= check.retries else self.status, streak, results)


def write_check(bundle: str, fields: CheckFields) -> None:
    """Say what is to be run, to whoever supervises the container from its start on."""
    supervision.write_bytes(os.path.join(bundle, supervision.CHECK_FILE), marshal.dumps(fields))


def read_check(bundle: str) -> Check | None:
    """Return what is to be run; None for a container without check."""
    payload = _read(os.path.join(bundle, supervision.CHECK_FILE))
    return Check(marshal.loads(payload)) if payload else None


def read(bundle: str) -> Health | None:
    """Return what is known of a container's health; None for one without check, or before its first start."""
    payload = _read(os.path.join(bundle, HEALTH_FILE))
    return Health(*marshal.loads(payload)) if payload else None


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return b""


class Monitor:
    """The checks of one container, from its start (or its adoption) until ``stop``."""

    def __init__(
        self,
        loop: Loop,
        bundle: str,
        check: Check,
        *,
        started_ns: int,
        launch: Launch,
        tell: Callable[[str], None],
    ) -> None:
        """``started_ns`` is the time of day; ``tell`` is called with each new status."""
        self._loop, self._bundle, self._check, self._started_ns = loop, bundle, check, started_ns
        self._launch, self._tell = launch, tell
        self._health = Health()
        self._run: _Run | None = None
        self._is_over = False

    def begin(self, known: Health | None = None) -> None:
        """Start checking; ``known`` is what another spawner has found out."""
        self._health = known or Health()
        self._save()
        self._schedule()

    def stop(self) -> None:
        """Check no more, and let a check that runs go: it ends with the container."""
        self._is_over = True
        if self._run is not None:
            self._run.close()

    def _schedule(self) -> None:
        self._loop.later(self._check.delay_ns(self._health, time.time_ns() - self._started_ns), self._on_due)

    def _on_due(self) -> None:
        if self._is_over:
            return
        if self._check.is_frozen():
            self._schedule()
            return
        try:
            run = self._run = _Run(self._loop, self._on_result)
        except OSError:  # no descriptor is left to find anything out with
            self._schedule()
            return
        self._loop.later(self._check.timeout_ns, lambda: self._on_timeout(run))
        try:
            self._launch(self._check.plan, self._check.cgroup, run.output_end, run.answers_end)
        except OSError as error:
            if error.errno in _WE_LACK:
                self._leave(run)
            else:
                run.finish(NOT_STARTED, str(error).encode())
        finally:
            run.close_ends()

    def _leave(self, run: _Run) -> None:
        """Let a run go that says nothing about the container, and look again in time."""
        run.close()
        self._run = None
        self._schedule()

    def _on_timeout(self, run: _Run) -> None:
        if self._run is not run or self._is_over:
            return
        if self._check.is_frozen():  # it could not answer
            run.kill()
            self._leave(run)
        else:
            run.kill()
            seconds = self._check.timeout_ns / 1_000_000_000
            run.finish(TIMED_OUT, f"Health check exceeded timeout ({seconds:g}s)".encode())

    def _on_result(self, result: Result) -> None:
        self._run = None
        if self._is_over:
            return
        before = self._health.status
        self._health = self._health.after(result, self._check, self._started_ns)
        self._save()
        self._schedule()
        if self._health.status != before:
            self._tell(self._health.status)

    def _save(self) -> None:
        health = self._health
        payload = marshal.dumps((health.status, health.failing_streak, health.results))
        try:
            supervision.write_bytes(os.path.join(self._bundle, HEALTH_FILE), payload)
        except OSError:  # a full disk: the next result says it as well
            return


class _Run:
    """One run of the check: its output so far, until it ends; an ended or closed one calls nobody."""

    def __init__(self, loop: Loop, on_result: Callable[[Result], None]) -> None:
        self._loop, self._on_result = loop, on_result
        self._began_ns = time.time_ns()
        self._pid = 0
        self._buffer, self._text = bytearray(), bytearray()
        self._output, self.output_end = os.pipe()
        try:
            self._answers, self.answers_end = os.pipe()
        except OSError:
            os.close(self._output)
            os.close(self.output_end)
            raise
        os.set_blocking(self._output, False)
        loop.watch(self._output, self._on_output)
        loop.watch(self._answers, self._on_answer)

    def close_ends(self) -> None:
        """Let go of the ends that the launched program has now."""
        os.close(self.output_end)
        os.close(self.answers_end)

    def kill(self) -> None:
        """Kill the program and its process group, if it runs."""
        if self._pid:
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except ProcessLookupError:
                return

    def finish(self, code: int, text: bytes) -> None:
        """End it with this exit code, and ``text`` after its output."""
        while self._output >= 0 and self._read():
            pass
        self._text += text
        self.close()
        output = bytes(self._text)
        if len(output) > OUTPUT_BYTES:
            output = output[:OUTPUT_BYTES] + _CUT
        self._on_result((self._began_ns, time.time_ns(), code, output))

    def close(self) -> None:
        """Close its pipes; safe to call twice."""
        for descriptor in (self._output, self._answers):
            if descriptor >= 0:
                self._loop.forget(descriptor)
                os.close(descriptor)
        self._output = self._answers = -1

    def _on_output(self, _: int) -> None:
        if not self._read():
            self._loop.forget(self._output)

    def _read(self) -> bool:
        try:
            data = os.read(self._output, 65536)
        except BlockingIOError:
            return False
        if len(self._text) <= OUTPUT_BYTES:
            self._text += data
        return bool(data)

    def _on_answer(self, _: int) -> None:
        data = os.read(self._answers, 4096)
        self._buffer += data
        while (message := wire.parse(self._buffer)) is not None:
            kind, *rest = message
            if kind == messages.STARTED:
                self._pid = rest[0]
            elif kind == messages.FAILED:
                self.finish(NOT_STARTED, f"{rest[0]}: {rest[2]}: {rest[3]}".encode())
                return
            else:
                self.finish(rest[0], b"")
                return
        if not data:
            self.finish(NOT_STARTED, b"")
