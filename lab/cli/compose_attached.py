"""Staying with a project that has been started: its output, its containers' ends, Ctrl-C, and its exit code."""

from __future__ import annotations

import argparse
import queue
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from lab.cli.compose_logs import LogLines, colours_of, in_thread, log_of, show
from lab.cli.compose_progress import Progress
from lab.compose import naming
from lab.compose.existing import ExistingContainer
from lab.compose.project import Operation
from lab.compose.steps import Cancellation
from lab.container import logs as reading
from lab.container.containers import Container, Containers
from lab.container.event_stream import Event, EventFile
from lab.errors import EXIT_INTERRUPTED, EXIT_OK, LabError, NoSuchContainer

_LAST_WORDS_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """When all is stopped, and whose exit code counts: that of a service, else the first container's that has ended."""

    on_exit: bool = False
    on_failure: bool = False
    code_from: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended:
    """That a container has ended; ``service`` is its service."""

    service: str
    code: int


class Attached:
    """What is shown of a project, and what is done when its user or one of its containers has had enough."""

    def __init__(
        self, acts: Operation, progress: Progress, shown: Collection[str], arguments: argparse.Namespace
    ) -> None:
        """``shown`` are the services whose output is shown."""
        self._acts, self._progress, self._shown = acts, progress, shown
        self._name = acts.project.name
        names = [
            naming.shown_name(self._name, naming.container_name(acts.project, acts.project.services[each], number))
            for each in shown
            for number in range(1, acts.project.services[each].replicas + 1)
        ]
        self._lines = LogLines(
            names,
            colours=colours_of(arguments.ansi, no_color=arguments.no_color),
            prefixes=not arguments.no_log_prefix,
            settle=progress.settle,
        )
        self._names = sorted(names)
        self._timestamps: bool = arguments.timestamps
        self._news: queue.SimpleQueue[_Ended | BaseException | None] = queue.SimpleQueue()
        self._seen: set[tuple[str, int]] = set()
        self._runs: dict[str, queue.SimpleQueue[None]] = {}
        self._begun_ns = time.time_ns()
        self._untold: set[str] = set()  # containers whose end has not been told of yet
        self._told = threading.Condition()

    def run(self, converge: Callable[[], None], services: Collection[str], ending: Ending) -> int:
        """Start by ``converge``, stay until all of ``services`` has ended, and return the exit code.

        Raises:
            LabError: something could not be started.
        """
        events = EventFile(self._acts.paths.run, only_new=True)
        cancellation = Cancellation()
        in_thread(lambda: self._follow_events(events, cancellation), self._note_failure)
        try:
            with _interrupted_by_termination():
                self._lines.tell(f"Attaching to {', '.join(self._names)}")
                converge()
                self._progress.settle()
                for each in self._running(services):
                    self._stay_with(each.id)
                code = self._stay(services, ending)
        except KeyboardInterrupt:
            self._lines.tell("Gracefully stopping... (press Ctrl+C again to force)")
            self._stop(services)
            code = EXIT_INTERRUPTED
        finally:
            cancellation.set()
        self._await_last_words()
        return code

    def _await_last_words(self) -> None:
        """Wait until what has ended has been told of, with all that it wrote before."""
        running = {each.id for each in self._running(self._acts.project.services)}
        with self._told:
            self._told.wait_for(lambda: self._untold <= running, _LAST_WORDS_S)

    def _stay(self, services: Collection[str], ending: Ending) -> int:
        code = EXIT_OK
        while self._running(services):
            ended = self._news.get()
            if isinstance(ended, BaseException):
                raise ended
            if ended is None or ended.service not in services:
                continue
            if ending.on_exit or (ending.on_failure and ended.code):
                code = ended.code
                self._lines.tell("Aborting on container exit...")
                self._stop(services)
                break
        return self._code_of(ending.code_from, code) if ending.code_from else code

    def _code_of(self, service: str, otherwise: int) -> int:
        found = self._acts.existing().of(service)
        return found[0].exit_code if found else otherwise

    def _running(self, services: Collection[str]) -> tuple[ExistingContainer, ...]:
        existing = self._acts.existing()
        return tuple(each for name in services for each in existing.of(name) if each.is_up)

    def _stop(self, services: Collection[str]) -> None:
        """Stop what runs, those that depend on others first; Ctrl-C meanwhile kills it."""
        done: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        in_thread(lambda: self._acts.stop(self._running(services)), done.put)
        while True:
            try:
                error = done.get()
                break
            except KeyboardInterrupt:
                self._kill(services)
        if error is not None:
            raise error

    def _kill(self, services: Collection[str]) -> None:
        with Containers(self._acts.paths) as containers:
            for each in self._running(services):
                self._progress.progress(f"Container {each.name}", "Killing")
                try:
                    containers.kill(each.id, signal.SIGKILL)
                except LabError:  # it has ended meanwhile
                    continue
                self._progress.progress(f"Container {each.name}", "Killed")

    # -- what happens --------------------------------------------------------------------------------------------------

    def _follow_events(self, events: EventFile, cancellation: Cancellation) -> None:
        with events:
            for event in events.follow(None, cancellation.descriptor):
                if self._is_ours(event) and event.action == "start":
                    self._stay_with(event.actor_id)

    def _is_ours(self, event: Event) -> bool:
        attributes = event.attributes
        return (
            event.kind == "container"
            and attributes.get(naming.PROJECT) == self._name
            and attributes.get(naming.ONE_OFF, "False") == "False"
        )

    def _note_failure(self, error: BaseException | None) -> None:
        if error is not None:
            self._news.put(error)

    def _stay_with(self, container_id: str) -> None:
        """Show what a container writes, and tell of its end: once for each of its runs."""
        with Containers(self._acts.paths) as containers:
            try:
                container = containers.get(container_id)
            except NoSuchContainer:
                return
        with self._told:
            if (container.id, container.started_ns) in self._seen:
                return
            self._seen.add((container.id, container.started_ns))
            is_known = container.id in self._runs
            runs = self._runs.setdefault(container.id, queue.SimpleQueue())
            runs.put(None)
            self._untold.add(container.id)
        if not is_known:
            in_thread(lambda: self._watch(container, runs), self._note_failure)

    def _watch(self, container: Container, runs: queue.SimpleQueue[None]) -> None:
        """Follow a container from run to run: what is in its log is shown once, however soon it starts again."""
        service = container.record.options.labels.get(naming.SERVICE, "")
        name = naming.shown_name(self._name, container.name)
        wanted = reading.Wanted(since_ns=self._begun_ns, timestamps=self._timestamps)
        write = self._lines.writer(name) if service in self._shown else _nowhere
        with Containers(self._acts.paths) as containers, log_of(container, wanted) as log:
            while True:
                runs.get()
                try:
                    show(containers, container.id, log, wanted, write, follow=True)
                    code = containers.wait(container.id) or EXIT_OK
                except NoSuchContainer:  # it has been removed, by a recreation or by somebody else
                    self._note_told(container.id, runs)
                    self._news.put(None)
                    return
                if service in self._shown:
                    self._lines.tell(f"{name} exited with code {code}")
                self._note_told(container.id, runs)
                self._news.put(_Ended(service=service, code=code))

    def _note_told(self, container_id: str, runs: queue.SimpleQueue[None]) -> None:
        with self._told:
            if runs.empty():  # else it has been started again meanwhile
                self._untold.discard(container_id)
                self._told.notify_all()


def _nowhere(_: bool, __: bytes) -> None:
    return


@contextmanager
def _interrupted_by_termination() -> Iterator[None]:
    """Let SIGTERM be what Ctrl-C is while the block lasts."""

    def interrupt(_: int, __: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
