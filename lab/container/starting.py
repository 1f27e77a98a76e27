"""A start of a container, by its user or by its restart policy: its streams, its ports, its files, its supervisor."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace

from lab.container import compiled, console, events, supervision
from lab.container.engine import Engine
from lab.container.names import Names
from lab.container.network import departure
from lab.container.options import names as names_options
from lab.container.options.run import RunOptions
from lab.container.pipes import opened_pipes
from lab.container.record import ContainerRecord
from lab.container.spawner_client import Running, Stdio, Streams, Supervision
from lab.container.spec.runtime import Status
from lab.container.state import ContainerState
from lab.container.volumes import points
from lab.container.volumes.model import MountPoint
from lab.errors import NoSuchContainer, StateConflict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container.network.holding import Keeper


def begin(engine: Engine, container_id: str, streams: Streams, *, restarts_done: int) -> Running:
    """Start a container under the shared spawner, with these streams; what it raises is said at ``Containers.start``.

    ``restarts_done`` is how many restarts this one makes in a row, 0 for a start that somebody asked for.
    """
    state = engine.state(container_id)
    record = ContainerRecord.load(state.bundle)
    options = record.options
    wanted = Supervision(
        bundle=state.bundle,
        has_terminal=options.terminal,
        streams=streams,
        restart=options.restart,
        restarts_most=options.restarts_most,
        restarts_done=restarts_done,
        removes=options.removes,
    )
    with contextlib.ExitStack() as stack:
        keeper = None
        if options.publish or options.publish_all:
            from lab.container.network.holding import Keeper

            keeper = stack.enter_context(Keeper())
            wanted = replace(wanted, streams=replace(wanted.streams, ports=keeper.fileno()))
        if options.terminal:
            pair = stack.enter_context(console.Pair())
            wanted = replace(
                wanted,
                streams=replace(wanted.streams, console=pair.receiver),
                terminal_keeper=compiled.terminal_keeper(engine.paths.cache),
            )
            return _start(engine, container_id, pair.stdio, wanted, record, keeper)
        stdio, kept = stack.enter_context(opened_pipes(state.bundle, open_stdin=options.open_stdin))
        if kept is not None and wanted.streams.kept is None and not _is_attached(wanted.streams):
            wanted = replace(wanted, streams=replace(wanted.streams, kept=kept))
        return _start(engine, container_id, stdio, wanted, record, keeper)


def _start(
    engine: Engine,
    container_id: str,
    stdio: Stdio,
    wanted: Supervision,
    record: ContainerRecord,
    keeper: Keeper | None,
) -> Running:
    volumes = tuple(each for each in points.read(wanted.bundle) if each.name)
    noted = False

    def prepare(state: ContainerState) -> None:
        nonlocal noted
        _agree_to_start(state.bundle, wanted.restarts_done)
        make_sources(record.options)
        if volumes:
            from lab.container.volumes import use

            use.note(engine.paths, state, volumes)
            noted = True
        departure.settle(state.bundle)  # of its last run, if that is still to be done
        if record.options.healthcheck is not None or record.image.healthcheck is not None:
            from lab.container import health_check  # few have one

            health_check.prepare(engine, state)
        named = None
        if state.endpoints or keeper is not None:
            from lab.container import arrival, naming  # few have ports, or networks that their users have made

            named = naming.of(engine.paths, state, Names(engine.paths.containers).of(container_id), record.options)
            arrival.arrive(engine, state, record, named, keeper)
            if state.endpoints:
                from lab.container import network_actors

                network_actors.note(engine.paths, state)
        nameserver = "" if named is None or named.server is None else named.server.address
        write_names(state, record.options, nameserver, links=_links(engine, state))

    hairpin = keeper is not None
    try:
        with _in_use(engine, volumes):
            return engine.start(container_id, stdio=stdio, supervision=wanted, prepare=prepare, hairpin=hairpin)
    except BaseException:
        if noted:
            events.Actor(wanted.bundle).note_volumes_left()
        if keeper is not None or engine.state(container_id).endpoints:
            _settle_unless_running(engine, container_id)
        raise


def _in_use(engine: Engine, volumes: tuple[MountPoint, ...]) -> contextlib.AbstractContextManager[None]:
    if not volumes:
        return contextlib.nullcontext()
    from lab.container.volumes import mounting  # others need not wait for it

    return mounting.in_use(engine.paths, (each.name for each in volumes))


def _settle_unless_running(engine: Engine, container_id: str) -> None:
    with contextlib.suppress(NoSuchContainer), engine.directory.locked(container_id):
        state = engine.state(container_id)
        if state.status != Status.RUNNING:  # else another start was first, and its ports are its own
            departure.settle(state.bundle)


def _links(engine: Engine, state: ContainerState) -> tuple[tuple[str, str], ...]:
    if not any(each.links for each in state.endpoints):
        return ()
    from lab.container import linking  # few have any

    return linking.hosts(engine, state)


def write_names(
    state: ContainerState, options: RunOptions, nameserver: str = "", *, links: tuple[tuple[str, str], ...] = ()
) -> None:
    """Write those of the container's own files that its networks change; ``nameserver`` knows the names on them.

    ``links`` are names and addresses of others, besides.
    """
    content = names_options.etc_content(
        options,
        state.id,
        read=read_if_there,
        addresses=tuple(address for each in state.attachments for address in each.addresses),
        gateway=_host_address(state),
        nameserver=nameserver,
        links=links,
    )
    changed = ("hosts", "resolv.conf") if state.endpoints else ("hosts",)
    for name in changed:  # in place: they are bound into a container that runs
        with open(os.path.join(state.bundle, name), "w", encoding="utf-8") as file:
            file.write(content[name])


def _host_address(state: ContainerState) -> str:
    """Return the host as the container reaches it, "" without network."""
    return next((each.host_address for each in state.attachments), "")


def _agree_to_start(bundle: str, restarts_done: int) -> None:
    """Under the container's lock: a user's start ends every stop, a restart has to be wanted still."""
    stopping = os.path.join(bundle, supervision.STOPPING_FILE)
    if not restarts_done:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(stopping)
    else:
        ended = supervision.read_exit_file(bundle)
        if os.path.exists(stopping):
            supervision.cancel_restart(bundle)
        if os.path.exists(stopping) or ended is None or ended.next_restart != restarts_done:
            raise StateConflict("the container is not to be started again")
    record = ContainerRecord.load(bundle)
    if record.restarts != restarts_done:
        replace(record, restarts=restarts_done).save(bundle)


def make_sources(options: RunOptions) -> None:
    """Make the directories of the host that -v names and that are not there, as docker does at each start."""
    for source, separator, _ in (text.partition(":") for text in options.volumes):
        if separator and os.path.isabs(source) and not os.path.exists(source):
            os.makedirs(source)


def _is_attached(streams: Streams) -> bool:
    return streams.stdout is not None or streams.stderr is not None


def read_if_there(path: str) -> str:
    """Return the text of a file of the host, "" if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""
