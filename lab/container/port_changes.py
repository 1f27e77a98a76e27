"""Ports of the host that begin or cease to lead to a container which exists already, at once if it runs.

What is changed is kept with the container, so that its next start publishes the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace

from lab.container import arrival, events, naming, ports
from lab.container.containers import Container, Containers
from lab.container.network import departure, fastpath, publish
from lab.container.network.endpoints import way_out
from lab.container.network.firewall import Publication
from lab.container.network.holding import Keeper
from lab.container.port_bindings import ContainerPort, HostPort, published, with_host
from lab.container.record import ContainerRecord
from lab.container.spawner_client import Streams
from lab.container.spec.runtime import Status
from lab.container.state import ContainerState
from lab.errors import StateConflict


def add(containers: Containers, reference: str, texts: tuple[str, ...]) -> tuple[Publication, ...]:
    """Let further ports of the host lead to a container, and return which do so now, none while it does not run.

    Raises:
        NoSuchContainer: there is none.
        SpecError: a text is none, see ``port_bindings.published``.
        StateConflict: a port is taken, or leads there already, or the container has no network that leads out.
        KernelError: the host has no such address, or nftables refused.
    """
    container = containers.get(reference)
    new = published(texts)
    with containers.engine.directory.locked(container.id):
        record = ContainerRecord.load(container.state.bundle)
        kept = replace(record, options=replace(record.options, publish=(*record.options.publish, *texts)))
        state = containers.engine.state(container.id)
        found: tuple[Publication, ...] = ()
        if state.status == Status.RUNNING:
            if way_out(state.attachments) is None:
                raise StateConflict(f"container {container.name} has no network through which it could be reached")
            with Keeper() as keeper:
                found = ports.hold(containers.engine, state, new, keeper)
                _lead(containers, container, state, (*publish.recorded(state.bundle), *found))
                with closing(containers.engine.spawner.attach(container.id, Streams(ports=keeper.fileno()))):
                    _let_back(state)
        kept.save(container.state.bundle)
    events.note(container.state.bundle, "update")
    return found


def remove(containers: Containers, reference: str, texts: tuple[str, ...]) -> None:
    """Let ports of a container be published no longer: "80" and "80/udp" all, "8080:80" the one that leads there.

    Raises:
        NoSuchContainer: there is none.
        SpecError: a text is none.
        StateConflict: nothing of the kind is published.
    """
    container = containers.get(reference)
    with containers.engine.directory.locked(container.id):
        record = ContainerRecord.load(container.state.bundle)
        state = containers.engine.state(container.id)
        asked = tuple((port, host) for port, hosts in published(texts).items() for host in hosts)
        options = [(text, published((text,))) for text in record.options.publish]
        given = [(port, host) for _, known in options for port, hosts in known.items() for host in hosts]
        leading = publish.recorded(state.bundle) if state.status == Status.RUNNING else ()
        for each in asked:
            if not any(_is_meant(each, other) for other in (*leading, *given)):
                raise StateConflict(
                    f"No public port '{each[0]}' published for {reference}", hint=f"lab port {reference}"
                )
        left = tuple(other for other in leading if not any(_is_meant(each, other) for each in asked))
        if state.status == Status.RUNNING:
            _lead(containers, container, state, left)
            _hold_anew(containers, state, left)
        texts_left = tuple(_texts_left(options, asked))
        replace(record, options=replace(record.options, publish=texts_left)).save(container.state.bundle)
    events.note(container.state.bundle, "update")


def _is_meant(asked: Publication, other: Publication) -> bool:
    (port, host), (port2, host2) = asked, other
    same_number = not host.number or host.number == host2.number
    same_place = not host.address or host.address == host2.address
    return port == port2 and same_number and same_place


def _texts_left(
    options: Iterable[tuple[str, dict[ContainerPort, tuple[HostPort, ...]]]], asked: tuple[Publication, ...]
) -> Iterable[str]:
    """Give the flags that are left; of a range, each port that is."""
    for text, known in options:
        pairs = [(port, host) for port, hosts in known.items() for host in hosts]
        left = [pair for pair in pairs if not any(_is_meant(each, pair) for each in asked)]
        if len(left) == len(pairs):
            yield text
        else:
            yield from (with_host(port, host) for port, host in left)


def _lead(
    containers: Containers, container: Container, state: ContainerState, publications: tuple[Publication, ...]
) -> None:
    named = naming.of(containers.paths, state, container.name, container.record.options)
    arrival.settle_down(containers.engine, state, named, publications, done=departure.rules(state.bundle))


def _hold_anew(containers: Containers, state: ContainerState, left: tuple[Publication, ...]) -> None:
    """Release the ports that are held, and hold those that are left: their rules stand meanwhile."""
    spawner = containers.engine.spawner
    descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        spawner.attach(state.id, Streams(no_ports=descriptor)).close()
    finally:
        os.close(descriptor)
    with Keeper() as keeper:
        ports.hold(containers.engine, state, publish.grouped(left), keeper)
        spawner.attach(state.id, Streams(ports=keeper.fileno())).close()


def _let_back(state: ContainerState) -> None:
    """Let a container reach itself through a port of the host: see ``Attachment.hairpin``."""
    for attachment in state.attachments:
        fastpath.let_back(replace(attachment, hairpin=True))
