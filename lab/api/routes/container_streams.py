"""/containers/…: what goes on for a while: attach, logs, stats, wait."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

from lab.api import stats_document
from lab.api.call import Call, Routes
from lab.api.http import JSON, RAW_STREAM, Answer, ClientGone
from lab.api.refusals import refused
from lab.api.relay import STDERR, STDOUT, Channel, Relay, framed
from lab.api.waiting import Ends, Witness
from lab.container import events, following, log_place, logs, statistics
from lab.container.containers import Container, Containers
from lab.container.detach_keys import DETACH_KEYS, Detached, DetachFilter, detach_sequence
from lab.container.event_stream import Event, EventFile
from lab.container.spawner_client import Running, SpawnerDied, StartFailed
from lab.container.statistics import Reading
from lab.errors import LabError, NoSuchContainer, SpecError, StateConflict

_log = logging.getLogger(__name__)
_CONDITIONS = ("not-running", "next-exit", "removed")
_STATS_INTERVAL_MS = 1000


# -- attach ------------------------------------------------------------------------------------------------------------


def attach(call: Call) -> None:
    """Connect the client with a container, also with one that is to be started only then.

    Raises:
        ClientGone: it has gone.
    """
    _attach(call, call.connection)


def attach_websocket(call: Call) -> None:
    """Do the same for a client that speaks websocket.

    Raises:
        ClientGone: it has gone.
    """
    from lab.api.websocket import WebSocket  # which few speak

    with contextlib.closing(WebSocket(call.connection, call.headers)) as channel:
        _attach(call, channel, is_framed=False)


def _attach(call: Call, channel: Channel, *, is_framed: bool = True) -> None:
    with call.containers() as containers, ExitStack() as stack:
        container = containers.get(call.name)
        if container.is_paused:
            raise StateConflict(f"Container {call.name} is paused. Unpause the container before attach")
        relay = stack.enter_context(_relay(call, container, channel, is_framed=is_framed))
        log_bytes = None
        if call.query.truth("stream"):
            ends = Ends(_connected(call, containers, container, relay), has_input=relay.has_input)
            log_bytes = stack.enter_context(_joined(call, containers, container, ends, relay))
        early = channel.hijack()
        begun_bytes = log_place.size_bytes(container.state.bundle) if log_bytes is None else log_bytes
        if call.query.truth("logs"):
            _replay(call, container, relay, log_bytes)
        events.note(container.state.bundle, "attach")
        relay.sent_bytes.update({STDOUT: 0, STDERR: 0})
        try:
            relay.feed(early)
            relay.run()
            if call.query.truth("stream"):
                _go_on(call, containers, container, relay, begun_bytes)
        except Detached:
            events.note(container.state.bundle, "detach")


def _relay(call: Call, container: Container, channel: Channel, *, is_framed: bool) -> Relay:
    keys = DetachFilter(detach_sequence(call.query.text("detachKeys") or DETACH_KEYS))
    has_terminal = container.record.options.terminal
    return Relay(channel, raw=has_terminal or not is_framed, keys=keys if has_terminal else None)


def _go_on(call: Call, containers: Containers, container: Container, relay: Relay, begun_bytes: int) -> None:
    """Connect again as long as the container outlives who supervises it; its log has what it has written meanwhile.

    ``begun_bytes`` is how long its log was when the client was connected first.
    """
    while _is_running(containers, container.id):
        ends = Ends(_connected(call, containers, container, relay, again=True), has_input=relay.has_input)
        try:
            running = containers.engine.spawner.attach(container.id, ends.streams)
        except StartFailed:  # it has ended meanwhile
            return
        finally:
            ends.close()
        with contextlib.closing(running):
            _catch_up(container, relay, begun_bytes, running.log_bytes)
            relay.run()


def _is_running(containers: Containers, container_id: str) -> bool:
    try:
        return containers.get(container_id).is_running
    except NoSuchContainer:
        return False


def _catch_up(container: Container, relay: Relay, begun_bytes: int, end_bytes: int) -> None:
    """Send what is in the log between two lengths of it, and has not been sent."""
    known, bundle = dict(relay.sent_bytes), container.state.bundle
    try:
        place = log_place.Place(bundle, begun_bytes)
    except FileNotFoundError:  # it has none
        return
    with contextlib.closing(place), logs.Reader(bundle, logs.Wanted(), since=place, end_bytes=end_bytes) as reader:
        for to_error, data in reader.pieces():
            stream = STDERR if to_error else STDOUT
            skipped = min(len(data), known[stream])
            known[stream] -= skipped
            if skipped < len(data) and relay.wants(stream):
                relay.send(stream, data[skipped:])


def _connected(
    call: Call, containers: Containers, container: Container, relay: Relay, *, again: bool = False
) -> dict[str, int]:
    """Connect the relay with new pipes, and return the container's ends of them; its input is kept ``again``."""
    options, theirs = container.record.options, dict[str, int]()
    for name, stream in (("stdout", STDOUT), ("stderr", STDERR)):
        if call.query.truth(name) and not (options.terminal and stream == STDERR):
            source, theirs[name] = os.pipe()
            relay.output(source, stream)
    if call.query.truth("stdin") and options.open_stdin and (options.terminal or not again):
        if options.terminal:
            theirs["typed"], target = os.pipe()
        else:
            target = containers.open_stdin(container.id)
        relay.input(target)
    return theirs


@contextmanager
def _joined(call: Call, containers: Containers, container: Container, ends: Ends, relay: Relay) -> Iterator[int | None]:
    """Let the container have its ends, now or at its start; give how long its log was before, None before its start."""
    if not container.is_running:
        relay.hold(ends.begun)
        with call.surroundings.waiting.waiting(container.id, ends):
            yield None
        return
    try:
        running = containers.engine.spawner.attach(container.id, ends.streams)
    finally:
        ends.close()
    with contextlib.closing(running):
        yield running.log_bytes


def _replay(call: Call, container: Container, relay: Relay, log_bytes: int | None) -> None:
    """Send what a container has written before the client was connected."""
    wanted = {STDOUT: call.query.truth("stdout"), STDERR: call.query.truth("stderr")}
    with logs.Reader(container.state.bundle, logs.Wanted(), end_bytes=log_bytes) as reader:
        for to_error, data in reader.pieces():
            stream = STDERR if to_error else STDOUT
            if wanted[stream]:
                relay.send(stream, data)


# -- logs --------------------------------------------------------------------------------------------------------------


def show_logs(call: Call) -> Answer | None:
    """Send what a container has written, and what it writes if the client follows.

    Raises:
        ClientGone: it has gone.
    """
    shown = {STDOUT: call.query.truth("stdout"), STDERR: call.query.truth("stderr")}
    if not any(shown.values()):
        raise SpecError("Bad parameters: you must choose at least one stream")
    wanted = _wanted(call)
    with call.containers() as containers:
        container = containers.get(call.name)
        if container.record.options.log_driver == "none":
            return refused(HTTPStatus.NOT_IMPLEMENTED, "configured logging driver does not support reading")
        raw, connection = container.record.options.terminal, call.connection
        with logs.Reader(container.state.bundle, wanted) as reader:
            connection.begin(RAW_STREAM)
            pieces = reader.pieces()
            if call.query.truth("follow") and container.is_running:
                pieces = following.follow(containers, container, reader, wanted, listener=connection.fileno())
            for to_error, data in pieces:
                stream = STDERR if to_error else STDOUT
                if shown[stream]:
                    connection.write(data if raw else framed(stream, data))
            connection.end()
    return None


def _wanted(call: Call) -> logs.Wanted:
    tail = call.query.text("tail")
    return logs.Wanted(
        tail=int(tail) if tail.isascii() and tail.isdigit() else None,
        since_ns=call.query.instant_ns("since"),
        until_ns=call.query.instant_ns("until"),
        timestamps=call.query.truth("timestamps"),
        details="" if call.query.truth("details") else None,
    )


# -- stats -------------------------------------------------------------------------------------------------------------


def stats(call: Call) -> None:
    """Send what a container uses, each second anew or once.

    Raises:
        ClientGone: the client has gone.
    """
    streams, once = call.query.truth("stream", default=True), call.query.truth("one-shot")
    with call.containers() as containers:
        container = containers.get(call.name)
        before: tuple[int, Reading] | None = None
        call.connection.begin(JSON)
        while True:
            now = (time.time_ns(), _reading(containers, container))
            if streams or once or before is not None or not container.is_running:
                found = stats_document.document(container.name, container.id, before, now, statistics.processors())
                call.connection.write(json.dumps(found, separators=(",", ":")).encode() + b"\n")
                if not streams:
                    break
            before = now
            _pause(call)
            try:
                container = containers.get(container.id)
            except NoSuchContainer:
                break
        call.connection.end()


def _pause(call: Call) -> None:
    """Wait for the next reading, as long as the client is there."""
    poll = select.poll()
    poll.register(call.connection, select.POLLRDHUP)
    if poll.poll(_STATS_INTERVAL_MS):
        raise ClientGone


def _reading(containers: Containers, container: Container) -> Reading:
    if not container.is_running:
        return Reading()
    pid = 0 if container.record.options.network == "host" else container.state.pid
    return statistics.read(containers.engine.runtime.layout, container.state.cgroup, pid)


# -- wait --------------------------------------------------------------------------------------------------------------


def wait(call: Call) -> None:
    """Wait for a container's end or removal; that the wait has begun is told before anything else can happen.

    Raises:
        ClientGone: the client has gone.
    """
    condition = call.query.text("condition") or "not-running"
    if condition not in _CONDITIONS:
        raise SpecError(f'invalid condition: "{condition}"')
    with call.containers() as containers, EventFile(call.paths.run, only_new=True) as file:
        container = containers.get(call.name)
        call.connection.begin(JSON)
        code = container.exit_code
        if condition != "not-running" or container.is_running or container.status == "restarting":
            with ExitStack() as stack:
                witness = None
                if condition == "removed" and container.record.options.removes and not container.is_running:
                    witness = stack.enter_context(call.surroundings.witnesses.waiting(container.id))
                code = _Wait(call, containers, container, condition, witness).run(file)
        call.connection.write(json.dumps({"Error": None, "StatusCode": code}).encode() + b"\n")
        call.connection.end()


class _Wait:
    """One wait: events tell how it goes on, and the process itself that somebody has to note its end."""

    def __init__(
        self, call: Call, containers: Containers, container: Container, condition: str, witness: Witness | None
    ) -> None:
        self._containers, self._id, self._condition, self._witness = containers, container.id, condition, witness
        self._client = call.connection.fileno()
        self._code, self._process = container.exit_code, -1

    def run(self, file: EventFile) -> int:
        """Return the exit code, once the condition holds.

        Raises:
            ClientGone: the client has gone.
        """
        with select.epoll() as either:
            either.register(self._client, select.EPOLLRDHUP)
            if self._witness is not None:
                either.register(self._witness.begun, select.EPOLLIN)
            try:
                self._watch_process(either)
                while True:
                    for event in file.follow(None, either.fileno()):
                        if event.kind == "container" and event.actor_id == self._id and self._is_over(event, either):
                            return self._code
                    if self._look(either):
                        return self._code
            finally:
                self._forget_process()

    def _look(self, either: select.epoll) -> bool:
        """Do what is to be done about a descriptor that is readable, and return whether the container is gone.

        Raises:
            ClientGone: the client has gone.
        """
        ready, witness = dict(either.poll(0)), self._witness
        if self._client in ready:
            raise ClientGone
        running = None if witness is None else witness.running
        if witness is not None and witness.begun in ready and running is not None:
            either.unregister(witness.begun)
            either.register(running, select.EPOLLIN)
            return self._has_ended(running) and self._remove(running)
        if running is not None and running.fileno() in ready:
            either.unregister(running)
            return self._remove(running)
        self._forget_process()
        self._containers.engine.spawner.ensure()
        return False

    def _has_ended(self, running: Running) -> bool:
        """Return whether a process ended so soon that its end has been read together with its start."""
        try:
            return running.wait(time.monotonic_ns()) is not None
        except SpawnerDied:
            return False

    def _remove(self, running: Running) -> bool:
        try:
            self._code = running.wait() or 0
            self._containers.remove(self._id, force=True)
        except (SpawnerDied, LabError) as error:  # whoever supervises it now does it, and events will tell
            _log.info("container %s is left to its supervisor: %s", self._id, error)
            running.close()
            return False
        return True

    def _is_over(self, event: Event, either: select.epoll) -> bool:
        if event.action == "start":
            self._watch_process(either)
        if event.action == "die":
            self._code = int(event.attributes.get("exitCode", self._code))
            return self._condition == "next-exit" or (self._condition == "not-running" and not self._is_restarting())
        return event.action == "destroy"

    def _is_restarting(self) -> bool:
        try:
            return self._containers.get(self._id).status == "restarting"
        except NoSuchContainer:
            return False

    def _watch_process(self, either: select.epoll) -> None:
        self._forget_process()
        with contextlib.suppress(NoSuchContainer, ProcessLookupError):  # it has ended: that will be told
            pid = self._containers.engine.state(self._id).pid
            if pid:
                self._process = os.pidfd_open(pid)
                either.register(self._process, select.EPOLLIN)

    def _forget_process(self) -> None:
        if self._process >= 0:  # which takes it out of what is polled as well
            os.close(self._process)
            self._process = -1


ROUTES: Routes = {
    ("POST", "/containers/{name}/attach"): attach,
    ("GET", "/containers/{name}/attach/ws"): attach_websocket,
    ("GET", "/containers/{name}/logs"): show_logs,
    ("GET", "/containers/{name}/stats"): stats,
    ("POST", "/containers/{name}/wait"): wait,
}
