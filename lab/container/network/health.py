"""Whether what a root's networks need is there: bridges, rules, name servers; and bringing back what is not."""

from __future__ import annotations

from collections.abc import Iterable

from lab.container.network import dns, presence
from lab.container.network.model import Network
from lab.container.network.networks import Networks
from lab.container.state import ContainerState
from lab.paths import Paths


def down(paths: Paths) -> tuple[str, ...]:
    """Return the names of networks whose bridge is gone, or which the root's rules do not know any more."""
    from lab.container.network import apply, plan  # which costs 200 ms

    networks = [network for network in _all(paths) if network.bridge is not None]
    if not networks:
        return ()
    admitted = apply.look(plan.bridge_name(paths.root)).admitted
    return tuple(
        network.name
        for network in networks
        if network.bridge is not None and not (presence.is_up(network.bridge.name) and network.bridge.name in admitted)
    )


def _all(paths: Paths) -> tuple[Network, ...]:
    return Networks(paths).all()


def bring_up(paths: Paths, name: str) -> None:
    """Make a network's bridge and rules again.

    Raises:
        NoSuchNetwork: it has been removed meanwhile.
        KernelError: the kernel or nftables refused.
    """
    from lab.container.network import apply

    network = Networks(paths).find(name)
    if network.bridge is not None:
        apply.ensure(paths, network.bridge)


def unanswered(paths: Paths, running: Iterable[ContainerState]) -> tuple[str, ...]:
    """Return the names of networks on which somebody runs, but no name server does."""
    used = {endpoint.network_id for state in running for endpoint in state.endpoints}
    return tuple(
        network.name
        for network in Networks(paths).made()
        if network.id in used and not dns.is_running(paths, network.id)
    )


def answer(paths: Paths, name: str) -> None:
    """Start a network's name server again.

    Raises:
        NoSuchNetwork: it has been removed meanwhile.
        KernelError: it does not start.
    """
    dns.ensure(paths, dns.Server(networks=(Networks(paths).find(name),)))
