"""The networks that a container comes onto and leaves, as its events tell of them.

What is written here is told by the spawner, which does not know networks: its side is ``events.py``.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from lab.container import events
from lab.container.event_actors import members
from lab.container.network import presence
from lab.container.state import ContainerState
from lab.errors import NoSuchNetwork
from lab.paths import Paths

_PREDEFINED = {"bridge": "bridge", "default": "bridge", "host": "host", "none": "none"}


def at_first(paths: Paths, container_id: str, mode: str) -> dict[str, str]:
    """Return the files (name, text) of a new container on one of the networks that every root has, else none."""
    name = _PREDEFINED.get(mode, "")
    if not name:
        return {}
    known = ((presence.predefined_id(paths, name), name, presence.DRIVERS[name]),)
    return {events.NETWORKS_FILE: _text(container_id, known)}


def note(paths: Paths, state: ContainerState) -> None:
    """Note on which networks a container is now, or will be when it starts.

    Raises:
        OSError: it cannot be written.
    """
    from lab.container.network.networks import Networks  # few have networks that their users have made

    networks, known = Networks(paths), []
    for endpoint in state.known_endpoints:
        with contextlib.suppress(NoSuchNetwork):
            found = networks.find(endpoint.network_id or endpoint.network)
            known.append((found.id, found.name, found.driver))
    path = os.path.join(state.bundle, events.NETWORKS_FILE)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(_text(state.id, known))
    os.replace(path + ".new", path)


def _text(container_id: str, known: Iterable[tuple[str, str, str]]) -> str:
    return "".join(
        f"{network_id} {members({'container': container_id, 'name': name, 'type': driver})}\n"
        for network_id, name, driver in known
    )
