"""Staying with a container: streams, signals, terminal, and its exit code as our own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.cli.attachment import Relay, SignalProxy, following_size, forwarding_signals, raw_terminal
from lab.container import event_actors, events, log_place
from lab.container.containers import Containers
from lab.container.detach_keys import DETACH_KEYS, Detached, DetachFilter, detach_sequence
from lab.container.options.run import RunOptions
from lab.container.spawner_client import Running, SpawnerDied, StartFailed, Streams
from lab.errors import EXIT_OK, LabError

STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """How a command wants to be connected: names of streams, detach keys, and whether it hands signals on."""

    streams: Collection[str] = ("stdin", "stdout", "stderr")
    keys: str = DETACH_KEYS
    forwards: bool = True


def stay_with(
    containers: Containers,
    container_id: str,
    options: RunOptions,
    wanted: Attachment,
    connect: Callable[[Streams], Running],
) -> int:
    """Connect by ``connect`` (a start, or an attach), relay until the container ends, and return its exit code.

    One with ``--rm`` is removed then. Detaching leaves it running and returns 0.

    Raises:
        StartFailed: it could not be started, or does not run.
        SpecError: the detach keys are none.
    """
    with ExitStack() as stack:
        sequence = detach_sequence(wanted.keys)
        relay = Relay(keys=DetachFilter(sequence) if options.terminal else None)  # bytes of a pipe are nobody's keys
        begun = _take_over(stack, containers, container_id, options, wanted)
        bundle = containers.engine.directory.bundle(container_id)
        before_bytes = log_place.size_bytes(bundle)
        with _connected(relay, containers, container_id, options, wanted.streams) as streams:
            events.note(bundle, "attach")
            running = connect(streams)
        stack.callback(running.close)
        place = _place(stack, bundle, running.log_bytes or before_bytes)
        begun()
        try:
            try:
                relay.run()
                code = running.wait()
            except SpawnerDied:
                code = _go_on(relay, containers, container_id, options, wanted, place)
        except Detached:
            events.note(bundle, "detach")
            return EXIT_OK
        if options.removes:
            with contextlib.suppress(LabError):  # the spawner may be faster, where it thinks that we are gone
                containers.remove(container_id, force=True)
        return EXIT_OK if code is None else code


def _place(stack: ExitStack, bundle: str, offset_bytes: int) -> log_place.Place | None:
    """Return where in its log what a container writes from now on will be; None for one without log."""
    try:
        place = log_place.Place(bundle, offset_bytes)
    except FileNotFoundError:
        return None
    stack.callback(place.close)
    return place


def _go_on(
    relay: Relay,
    containers: Containers,
    container_id: str,
    options: RunOptions,
    wanted: Attachment,
    place: log_place.Place | None,
) -> int | None:
    """Connect again: the container has outlived who supervised it, and has another one now.

    What it has written meanwhile is in its log. Its standard input is a pipe that it has kept, or its terminal.

    Raises:
        SpawnerDied: whoever is asked to supervise it dies before the answer, time after time.
    """
    names = set(wanted.streams) - (set() if options.terminal else {"stdin"})
    bundle = containers.engine.directory.bundle(container_id)
    while True:
        with _connected(relay, containers, container_id, options, names) as streams:
            try:
                running = containers.engine.spawner.attach(container_id, streams)
            except StartFailed:  # it has ended meanwhile
                _catch_up(relay, bundle, place, names, None)
                return containers.wait(container_id)
        with contextlib.closing(running), contextlib.suppress(SpawnerDied):
            _catch_up(relay, bundle, place, names, running.log_bytes)
            relay.run()
            return running.wait()


def _catch_up(
    relay: Relay, bundle: str, place: log_place.Place | None, names: Collection[str], end_bytes: int | None
) -> None:
    """Write what is in the log since ``place``, up to ``end_bytes`` of its last file, and has not been written."""
    if place is None:
        return
    from lab.container import logs  # which only this needs

    skipped_bytes = dict(relay.written_bytes)
    with logs.Reader(bundle, logs.Wanted(), since=place, end_bytes=end_bytes) as reader:
        for to_error, data in reader.pieces():
            target = STDERR if to_error else STDOUT
            known = min(len(data), skipped_bytes.get(target, 0))
            skipped_bytes[target] = skipped_bytes.get(target, 0) - known
            if known < len(data) and ("stderr" if to_error else "stdout") in names:
                relay.write(target, data[known:])


def _take_over(
    stack: ExitStack, containers: Containers, container_id: str, options: RunOptions, wanted: Attachment
) -> Callable[[], None]:
    """Have keys and signals meant for the container before it is there; return what to call once it is.

    So none of them comes to this command instead, in between: signals are kept until then.
    """
    if options.terminal:
        if "stdin" in wanted.streams and options.open_stdin:
            stack.enter_context(raw_terminal(STDIN))
        size = following_size(lambda rows, columns: _resize(containers, container_id, rows, columns))
        return lambda: stack.enter_context(size)
    proxy = SignalProxy(lambda number: _send(containers, container_id, number))
    if wanted.forwards:
        stack.enter_context(forwarding_signals(proxy.take))
    return proxy.begin


def _resize(containers: Containers, container_id: str, rows: int, columns: int) -> None:
    containers.engine.spawner.resize(container_id, rows=rows, columns=columns)
    bundle = containers.engine.directory.bundle(container_id)
    events.note(bundle, "resize", event_actors.members({"height": str(rows), "width": str(columns)}))


def _send(containers: Containers, container_id: str, number: int) -> None:
    with contextlib.suppress(LabError):
        containers.engine.kill(container_id, number)


@contextmanager
def _connected(
    relay: Relay, containers: Containers, container_id: str, options: RunOptions, wanted: Collection[str]
) -> Iterator[Streams]:
    """Give the container's ends of the pipes that are wanted; they are closed when the block ends."""
    theirs: dict[str, int] = {}
    try:
        for name, target in (("stdout", STDOUT), ("stderr", STDERR)):
            if name in wanted and not (options.terminal and name == "stderr"):
                source, theirs[name] = os.pipe()
                relay.output(source, target)
        if "stdin" in wanted and options.open_stdin:
            if options.terminal:
                theirs["typed"], ours = os.pipe()
                relay.input(STDIN, ours)
            else:
                relay.input(STDIN, containers.open_stdin(container_id))
        yield Streams(**theirs)
    finally:
        for descriptor in theirs.values():
            os.close(descriptor)
