"""What uses images: containers on disk, running or not, and mounts of any process."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import dataclass

from lab.container.record import ContainerRecord
from lab.container.spec.runtime import Status
from lab.container.state import ContainerDirectory
from lab.errors import NoSuchContainer, StateConflict


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUse:
    """A container and the layers that it stands on, as directories, topmost first.

    ``image_id`` is "" for a container that was made by a library's user, from layers.
    """

    container_id: str
    image_id: str
    layers: tuple[str, ...]
    running: bool


def container_uses(containers_root: str) -> tuple[ContainerUse, ...]:
    """Return what each container of a root stands on.

    Raises:
        StateConflict: a container's state cannot be read, so that it might need anything.
    """
    directory = ContainerDirectory(containers_root)
    found = []
    for container_id in directory.ids():
        try:
            state = directory.load(container_id)
        except NoSuchContainer:
            continue  # removed meanwhile
        except (TypeError, ValueError) as error:
            raise StateConflict(
                f"the state of container {container_id} is damaged: {error}", hint=f"lab rm --force {container_id}"
            ) from error
        running = state.status not in (Status.STOPPED, Status.CREATED)
        image_id = _image_id(directory.bundle(container_id))
        found.append(ContainerUse(container_id=container_id, image_id=image_id, layers=state.layers, running=running))
    return tuple(found)


def _image_id(bundle: str) -> str:
    try:
        return ContainerRecord.load(bundle).image_id
    except NoSuchContainer:
        return ""


def mounted_by(directories: Collection[str]) -> dict[str, str]:
    """Return which of the layers' directories are mounted, each with the pid of a process that sees it.

    Containers have mount namespaces of their own, so each process is asked; overlay shows its layers as options.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            if namespace in seen:
                continue
            with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="replace") as file:
                lines = [line for line in file if " overlay " in line]
        except OSError:
            continue  # it has ended meanwhile
        seen.add(namespace)
        found.update({path: pid for path in directories if any(path in line for line in lines)})
    return found
