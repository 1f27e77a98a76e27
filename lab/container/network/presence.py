"""Whether a root's bridge is there: what commands that start containers ask first, without the weight of pyroute2.

networks/bridge.json       the bridge of the root, and what its removal has to restore
networks/<bridge>.docker   there if docker's rules know of a bridge
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from dataclasses import asdict, dataclass

from lab.container.network.model import Bridge
from lab.linux import links, rtnetlink
from lab.paths import Paths

DRIVERS = {"bridge": "bridge", "host": "host", "none": "null"}
"""The networks that every root has, and what carries each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a root has made: the bridge, and whether the host's forwarding was off before."""

    bridge: Bridge
    forwarding_was_off: bool


def predefined_id(paths: Paths, name: str) -> str:
    """Return the id of a network that every root has: another one for each root."""
    return hashlib.sha256(f"{paths.root}:{name}".encode()).hexdigest()


def standing(paths: Paths) -> Bridge | None:
    """Return the bridge of a root if it is recorded and ready, at the cost of a file read and two looks."""
    made = recorded(paths)
    return made.bridge if made is not None and is_ready(paths, made.bridge.name) else None


def is_ready(paths: Paths, name: str) -> bool:
    """Return whether a bridge is up and docker, if it is here, knows of it.

    One that was made before docker came is not: docker drops what it carries until ``neighbours`` has asked.
    """
    return is_up(name) and (not is_docker_here() or os.path.exists(_known_path(paths, name)))


def note_docker(paths: Paths, name: str) -> None:
    """Note that docker, if it is here, knows of a bridge; if it is not, it will not when it comes."""
    if is_docker_here():
        os.close(os.open(_known_path(paths, name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
    else:
        forget_docker(paths, name)


def forget_docker(paths: Paths, name: str) -> None:
    """Note that a bridge is gone; safe to repeat."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_known_path(paths, name))


def _known_path(paths: Paths, name: str) -> str:
    return os.path.join(paths.networks, f"{name}.docker")


def is_docker_here() -> bool:
    """Return whether docker has its own bridge on this host."""
    return links.exists("docker0")


def is_up(name: str) -> bool:
    """Return whether there is a link of this name, and it is up."""
    try:
        return bool(links.flags(name) & rtnetlink.IFF_UP)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
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
    return Made(bridge=Bridge(**document["bridge"]), forwarding_was_off=document["forwarding_was_off"])


def record(paths: Paths, made: Made) -> None:
    """Keep what this root has made, before it is."""
    os.makedirs(paths.networks, mode=0o700, exist_ok=True)
    path = record_path(paths)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(asdict(made), file)
    os.rename(path + ".new", path)
