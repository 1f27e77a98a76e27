"""Which binds and volumes a container has, kept beside its configuration: containers/<id>/mounts.json.

A container without any has no such file, and costs nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator

from lab.container import bind_source
from lab.container.spec import codec
from lab.container.spec.runtime import Mount
from lab.container.volumes.model import MountPoint, MountType

FILE = "mounts.json"


def text(found: Iterable[MountPoint]) -> str:
    """Return the content of the file."""
    return json.dumps([codec.encode(each) for each in found])


def save(bundle: str, found: Iterable[MountPoint]) -> None:
    """Replace what a container has.

    Raises:
        OSError: with errno and path.
    """
    path = os.path.join(bundle, FILE)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text(found))
    os.replace(path + ".new", path)


def read(bundle: str) -> tuple[MountPoint, ...]:
    """Return what a container has; nothing for one that is gone."""
    try:
        with open(os.path.join(bundle, FILE), encoding="utf-8") as file:
            return tuple(codec.decode(MountPoint, each) for each in json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        return ()


def users(containers: str) -> dict[str, tuple[str, ...]]:
    """Return the ids of the containers below a directory that have a volume, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for container_id, name in _uses(containers):
        found[name] = (*found.get(name, ()), container_id)
    return found


def _uses(containers: str) -> Iterator[tuple[str, str]]:
    try:
        ids = sorted(name for name in os.listdir(containers) if not name.startswith("."))
    except FileNotFoundError:
        return
    for container_id in ids:
        points = read(os.path.join(containers, container_id))
        yield from ((container_id, name) for name in sorted({each.name for each in points if each.name}))


def _access(point: MountPoint) -> str:
    if point.writable:
        return "rw"
    return bind_source.READ_ONLY_TOP if point.read_only_top else "ro"


def mounts(found: Iterable[MountPoint]) -> tuple[Mount, ...]:
    """Return what the runtime mounts."""
    return tuple(
        Mount(
            destination=each.destination,
            type=MountType.BIND,
            source=each.source,
            options=(
                "rbind" if each.recursive else "bind",
                _access(each),
                *((each.propagation,) if each.propagation else ()),
                *((bind_source.subpath_option(each.subpath),) if each.subpath else ()),
            ),
        )
        for each in found
    )
