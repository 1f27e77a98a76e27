"""Whether a root's bridge is there: what commands that start containers ask first, without the weight of pyroute2.

networks/bridge.json   the bridge of the root, and what its removal has to restore
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass

from lab.container.network.model import Bridge
from lab.paths import Paths

LINKS = "/sys/class/net"
IFF_UP = 0x1


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a root has made: the bridge, whether the host's forwarding was off before, and whether docker was there."""

    bridge: Bridge
    forwarding_was_off: bool
    beside_docker: bool = False


def standing(paths: Paths) -> Bridge | None:
    """Return the bridge of a root if it is recorded and up, at the cost of two file reads and a look.

    One that was made before docker came is none: docker drops what it carries until ``neighbours`` has asked.
    """
    made = recorded(paths)
    if made is None or not is_up(made.bridge.name) or (is_docker_here() and not made.beside_docker):
        return None
    return made.bridge


def is_docker_here() -> bool:
    """Return whether docker has its own bridge on this host."""
    return os.path.exists(os.path.join(LINKS, "docker0"))


def is_up(name: str) -> bool:
    """Return whether there is a link of this name, and it is up."""
    try:
        with open(os.path.join(LINKS, name, "flags"), encoding="ascii") as file:
            return bool(int(file.read(), 16) & IFF_UP)
    except OSError:  # no such link; or it vanished between open and read
        return False


def record_path(paths: Paths) -> str:
    """Return where the record of a root's bridge is kept."""
    return os.path.join(paths.networks, "bridge.json")


def recorded(paths: Paths) -> Made | None:
    """Return what this root has made, None if nothing."""
    try:
        with open(record_path(paths), encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        return None
    return Made(**{**document, "bridge": Bridge(**document["bridge"])})


def record(paths: Paths, made: Made) -> None:
    """Keep what this root has made, before it is."""
    os.makedirs(paths.networks, mode=0o700, exist_ok=True)
    path = record_path(paths)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(asdict(made), file)
    os.rename(path + ".new", path)
