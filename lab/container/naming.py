"""A container's names on its networks: what others call it there, and whom it asks itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.container.network import dns, firewall, plan
from lab.container.network.model import Endpoint, Network
from lab.container.network.networks import Networks
from lab.container.options.run import RunOptions
from lab.container.state import ContainerState
from lab.paths import Paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """What a container takes part in: its endpoints on networks with names, and the server that it asks."""

    state: ContainerState
    name: str
    members: tuple[tuple[Endpoint, Network], ...]
    server: dns.Server | None

    @property
    def files(self) -> tuple[str, ...]:
        """The ids of its networks, for ``dns.hosts_file``."""
        return tuple(network.id for _, network in self.members)

    @property
    def servers(self) -> tuple[dns.Server, ...]:
        """The servers that have to run for it: those of its networks, for others, and the one that it asks."""
        plain = (dns.Server(networks=(network,)) for _, network in self.members)
        return (*plain, *(() if self.server is None or self.server.is_plain else (self.server,)))


def of(paths: Paths, state: ContainerState, name: str, options: RunOptions) -> Naming:
    """Return how a container with its places on its networks is called, and by whom it is answered."""
    networks = Networks(paths)
    members = tuple(_members(networks, state))
    upstream = tuple(options.dns) if members else ()
    server = dns.Server(networks=tuple(network for _, network in members), upstream=upstream) if members else None
    return Naming(state=state, name=name, members=members, server=server)


def _members(networks: Networks, state: ContainerState) -> Iterator[tuple[Endpoint, Network]]:
    for endpoint in state.endpoints:
        if endpoint.attachment is not None:
            network = networks.find(endpoint.network_id or endpoint.network)
            if not network.is_predefined:
                yield endpoint, network


def rules(paths: Paths, naming: Naming) -> tuple[str, str]:
    """Return what leads a container to its server, and what undoes that; "" where it finds the server anyway."""
    server = naming.server
    if server is None or server.is_plain:
        return "", ""
    table = plan.bridge_name(paths.root)
    address = next(e.attachment.address for e, _ in naming.members if e.attachment is not None)
    place = (table, address, server.address, server.port)
    return firewall.answer_at(*place), firewall.answer_no_longer(*place)


def announce(paths: Paths, naming: Naming) -> None:
    """Make a container's names known on its networks, and see that its server runs.

    Raises:
        UnavailableError: dnsmasq is not installed.
        KernelError: it does not start.
        OSError: the names cannot be written.
    """
    for endpoint, network in naming.members:
        assert endpoint.attachment is not None
        names = dns.own_names(naming.name, naming.state.id, endpoint.aliases)
        dns.tell(paths, network, naming.state.id, dns.lines(endpoint.attachment, network.name, names))
    for server in naming.servers:
        dns.ensure(paths, server)
