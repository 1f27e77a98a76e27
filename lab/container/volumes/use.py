"""A container's use of its volumes, as events tell of it: "mount" when it starts, "unmount" when it has ended.

The end is told by the spawner, which knows no volumes: what it is to say, and whether something is to be unmounted
then, is written beside the container before its start (``events.VOLUMES_FILE``, ``supervision.UNMOUNT_FILE``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress

from lab.container import event_actors, events, supervision
from lab.container.event_actors import members
from lab.container.state import ContainerState
from lab.container.volumes import driver
from lab.container.volumes.model import DRIVER, MountPoint
from lab.container.volumes.store import VolumeStore
from lab.paths import Paths


def note(paths: Paths, state: ContainerState, found: Iterable[MountPoint]) -> None:
    """Write down that a container is about to have its volumes, and what is to be told and done when it has ended.

    Raises:
        OSError: with errno and path.
    """
    volumes = tuple(found)
    note_change(paths, state, "mount", volumes)
    note_left(paths, state, volumes)


def note_left(paths: Paths, state: ContainerState, found: Iterable[MountPoint]) -> None:
    """Write down what is to be told and done about volumes when a container has ended.

    Raises:
        OSError: with errno and path.
    """
    names = sorted({each.name for each in found if each.name})
    left = members({"container": state.id, "driver": DRIVER})
    _write(os.path.join(state.bundle, events.VOLUMES_FILE), "".join(f"{name} {left}\n" for name in names))
    mark = os.path.join(state.bundle, supervision.UNMOUNT_FILE)
    if any(driver.is_mounted(volume.options) for volume in VolumeStore(paths).some(names)):
        _write(mark, "")
    else:
        with suppress(FileNotFoundError):
            os.unlink(mark)


def note_change(paths: Paths, state: ContainerState, action: str, found: Iterable[MountPoint]) -> None:
    """Write down that a container has got ("mount") or lost ("unmount") volumes."""
    for each in found:
        if each.name:
            more = _attributes(state.id, each) if action == "mount" else {"container": state.id, "driver": DRIVER}
            event_actors.note_volume(paths.run, action, each.name, more)


def _attributes(container_id: str, point: MountPoint) -> dict[str, str]:
    return {
        "container": container_id,
        "destination": point.destination,
        "driver": DRIVER,
        "propagation": point.propagation,
        "read/write": "true" if point.writable else "false",
    }


def _write(path: str, text: str) -> None:
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)
