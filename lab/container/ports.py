"""A container's ports: which it asks for, and how they come to lead to it, at its start or while it runs."""

from __future__ import annotations

from collections.abc import Iterator

from lab.container.engine import Engine
from lab.container.network import departure, publish
from lab.container.network.endpoints import way_out
from lab.container.network.firewall import Publication
from lab.container.network.holding import Keeper
from lab.container.network.model import Attachment
from lab.container.port_bindings import Bindings, ContainerPort, HostPort, ports, published
from lab.container.record import ContainerRecord
from lab.container.spec.runtime import Status
from lab.container.state import ContainerState
from lab.errors import KernelError, StateConflict
from lab.linux import nftables

_EEXIST = 17


def exposed(record: ContainerRecord) -> tuple[ContainerPort, ...]:
    """Return the ports that a container says that it listens on, published ones included; sorted."""
    texts = (*record.image.exposed_ports, *record.options.expose)
    found = {port for text in texts for port in ports(text)}
    return tuple(sorted(found | set(published(record.options.publish))))


def wanted(record: ContainerRecord) -> Bindings:
    """Return which ports of the host are to lead to a container, as its flags say."""
    given = published(record.options.publish)
    if not record.options.publish_all:
        return given
    return {**{port: (HostPort(address="", number=0),) for port in exposed(record)}, **given}


def hold(engine: Engine, state: ContainerState, asked: Bindings, keeper: Keeper) -> tuple[Publication, ...]:
    """Hold ports that are to lead to a container, which has its places on its networks, and return which they are.

    Raises:
        StateConflict: a port is taken.
        KernelError: the host has no such address.
    """
    attachment = way_out(state.attachments)
    if attachment is None:
        return ()
    return publish.hold(keeper, asked, _families(attachment), lambda each: _is_ours(engine, each))


def _families(attachment: Attachment) -> tuple[int, ...]:
    return tuple(6 if ":" in address else 4 for address in attachment.addresses)


def load(engine: Engine, rules: str) -> None:
    """Load the rules that lead ports to a container; none is nothing to do.

    Raises:
        StateConflict: another one has a port.
        KernelError: nftables refused.
    """
    if not rules:
        return
    try:
        _load(rules)
    except StateConflict:  # of a container that was killed with all that should have undone it
        for other in _ended(engine):
            departure.settle(other.bundle)
        _load(rules)


def _load(rules: str) -> None:
    try:
        nftables.load(rules)
    except OSError as error:
        words = str(error.strerror or error)
        if error.errno == _EEXIST:
            raise StateConflict("Bind failed: port is already allocated", hint="lab ps; lab system check") from error
        raise KernelError("publish", "ports", words, hint="lab system check") from error


def _ended(engine: Engine) -> Iterator[ContainerState]:
    return (state for state in engine.list() if state.status != Status.RUNNING and departure.is_due(state.bundle))


def _is_ours(engine: Engine, publication: Publication) -> bool:
    running = (state for state in engine.list() if state.status == Status.RUNNING)
    return any(publish.overlaps(publication, other) for state in running for other in publish.recorded(state.bundle))
