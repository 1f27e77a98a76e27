"""Whether what a root's networks need is there, bridges and rules; and bringing back what is not, its own at least."""

from __future__ import annotations

import os

from lab.container.network import presence
from lab.container.network.model import Bridge, Network
from lab.container.network.networks import Networks
from lab.paths import Paths


def down(paths: Paths) -> tuple[str, ...]:
    """Return the names of networks whose bridge is gone, or which the root's rules, or docker's, do not know."""
    from lab.container.network import apply, neighbours, plan  # which costs 200 ms

    networks = [network for network in _all(paths) if network.bridge is not None]
    if not networks:
        return ()
    admitted = apply.look(plan.bridge_name(paths.root)).admitted

    def works(bridge: Bridge) -> bool:
        return presence.is_up(bridge.name) and bridge.name in admitted and neighbours.is_accommodated(bridge)

    return tuple(network.name for network in networks if network.bridge is not None and not works(network.bridge))


def obstacles(paths: Paths) -> dict[str, str]:
    """Return the chains of others that drop what networks forward, with the commands that mend it."""
    from lab.container.network import neighbours

    bridges = (network.bridge for network in _all(paths) if network.bridge is not None)
    found = {obstacle for bridge in bridges for obstacle in neighbours.obstacles(bridge)}
    return {obstacle.subject: obstacle.hint for obstacle in sorted(found, key=lambda each: each.subject)}


def dead_bridges() -> dict[str, str]:
    """Return the idle bridges of roots that are not there any more, with these roots; only root can look."""
    if os.geteuid():
        return {}
    from lab.container.network import apply

    return apply.dead()


def clear_away() -> None:
    """Remove them, and all that goes with them.

    Raises:
        KernelError: the kernel or nftables refused.
    """
    from lab.container.network import apply

    apply.clear_away()


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
