"""What is done for a container when it comes: ports are led to it, and its names are made known on its networks.

All of it is noted before it is done, for ``departure`` to undo.
"""

from __future__ import annotations

from lab.container import naming, ports
from lab.container.engine import Engine
from lab.container.naming import Naming
from lab.container.network import departure, dns, firewall, plan, publish
from lab.container.network.endpoints import way_out
from lab.container.network.firewall import Publication
from lab.container.network.holding import Keeper
from lab.container.record import ContainerRecord
from lab.container.state import ContainerState


def arrive(
    engine: Engine, state: ContainerState, record: ContainerRecord, named: Naming, keeper: Keeper | None
) -> None:
    """Do it for a container that has its places on its networks and is about to be started; under its lock.

    Raises:
        StateConflict: a port is taken.
        KernelError: the host has no such address, or nftables or the name server refused.
        UnavailableError: the name server is not installed.
    """
    publications = () if keeper is None else ports.hold(engine, state, ports.wanted(record), keeper)
    settle_down(engine, state, named, publications)


def settle_down(
    engine: Engine, state: ContainerState, named: Naming, publications: tuple[Publication, ...], done: str = ""
) -> None:
    """Note how all that leads to a container is undone, then do it; ``done`` is what replaces rules of before."""
    table, reached = plan.bridge_name(engine.paths.root), way_out(state.attachments)
    addresses = () if reached is None else reached.addresses
    answered, not_answered = naming.rules(engine.paths, named)
    files = [dns.hosts_file(engine.paths, network_id, state.id) for network_id in named.files]
    undo = firewall.unpublish(table, publications, addresses) + not_answered
    if files or undo:
        departure.write(state.bundle, files, undo)
    publish.record(state.bundle, publications)
    ports.load(engine, done + firewall.publish(table, publications, addresses) + answered)
    naming.announce(engine.paths, named)
