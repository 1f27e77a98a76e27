"""Who is on which network."""

from __future__ import annotations

from lab.container.containers import Containers
from lab.container.network.description import Member
from lab.container.network.networks import Networks


def members(containers: Containers) -> dict[str, list[Member]]:
    """Return who runs on each network, by its id."""
    networks = Networks(containers.paths)
    own = networks.find("bridge").id
    found: dict[str, list[Member]] = {}
    for container in containers.all():
        for endpoint in container.state.known_endpoints if container.is_running else ():
            if endpoint.attachment is not None:
                member = (container.id, container.name, endpoint.attachment)
                found.setdefault(endpoint.network_id or own, []).append(member)
    return found
