"""Which containers a list is about, and what it tells of them beyond what each knows of itself: images and sizes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from lab.container import inspection, port_bindings, selection
from lab.container.containers import Container, Containers
from lab.container.image.stored import StoredImage
from lab.container.storage import disk
from lab.container.volumes import points
from lab.errors import LabError


def find(
    containers: Containers, images: ImagesByName, filters: Mapping[str, Sequence[str]], *, every: bool, last: int = -1
) -> list[Container]:
    """Return the containers that are asked for, the newest first: those that run, ``every`` one, or the ``last`` N.

    Raises:
        ContainerError: a filter's value is none, or the container that it names is not there.
    """
    holds = selection.conditions(filters, lambda name: containers.get(name).record.created_ns)
    shows_all = every or last > 0 or "status" in filters
    found = [each for each in containers.all() if shows_all or each.is_running or each.status == "restarting"]
    if holds:
        listed = ((each, _listed(each, images)) for each in found)
        found = [each for each, facts in listed if all(condition(facts) for condition in holds)]
    return found[:last] if last > 0 else found


def _listed(container: Container, images: ImagesByName) -> selection.Listed:
    mounts = points.read(container.state.bundle)
    return selection.Listed(
        id=container.id,
        name=container.name,
        status=container.status,
        created_ns=container.record.created_ns,
        exit_code=container.exit_code,
        has_run=bool(container.started_ns),
        health=inspection.health_status(container) or "none",
        labels=inspection.labels(container),
        networks=inspection.network_names(container),
        volumes=tuple(text for mount in mounts for text in (mount.source, mount.destination, mount.name) if text),
        exposed=frozenset(inspection.exposed_ports(container)),
        published=frozenset(port_bindings.published(container.record.options.publish)),
        is_of=lambda name: images.is_of(container, name),
    )


class ImagesByName:
    """Images by name or id, and which of them containers were made of, directly or not; each is looked up once."""

    def __init__(self, containers: Containers) -> None:
        """Look nothing up yet."""
        self._images = containers.images
        self._known: dict[str, StoredImage | None] = {}

    def is_of(self, container: Container, name: str) -> bool:
        """Return whether a container's image is the one of this name, or was made of it: its first layers and steps."""
        ancestor, image = self.find(name), self.find(container.record.image_id)
        if ancestor is None:
            return False
        if ancestor.config_digest == container.record.image_id or image is None:
            return ancestor.config_digest == container.record.image_id
        steps, layers = ancestor.config.history, ancestor.chain_ids
        return bool(steps) and image.config.history[: len(steps)] == steps and image.chain_ids[: len(layers)] == layers

    def find(self, name: str) -> StoredImage | None:
        """Return the image that is meant; None if there is none, or it is damaged."""
        if name not in self._known:
            try:
                self._known[name] = self._images.resolve(name)
            except LabError:
                self._known[name] = None
        return self._known[name]

    def name_of(self, container: Container) -> str:
        """Return what a container's image is called: as its user called it, or its id if another one has that name."""
        name = container.record.options.image
        image = self.find(name)
        is_same = image is not None and image.config_digest == container.record.image_id
        is_id = container.record.image_id.removeprefix("sha256:").startswith(name.removeprefix("sha256:"))
        return name if is_same and not is_id else container.record.image_id


def sizes(container: Container, containers: Containers) -> tuple[int, int]:
    """Return the bytes that a container has written, and those of all its files with its image's."""
    own = disk.content_bytes(container.state.upper)
    try:
        below = containers.images.content_bytes(containers.images.resolve(container.record.image_id))
    except LabError:  # the image has been removed by force, or is damaged: its layers are still there
        below = sum(disk.content_bytes(layer) for layer in container.state.layers if os.path.isdir(layer))
    return own, own + below
