"""What nothing uses, removed: containers that do not run, images, networks, volumes, as docker's prunes choose them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence

from lab.container import event_actors, inspection, labels
from lab.container.connected import members
from lab.container.containers import Container, Containers
from lab.container.disk_usage import ACTIVE
from lab.container.image.filters import Listed, conditions, until_ns
from lab.container.image.store import ImageStore, Removed
from lab.container.image.stored import StoredImage
from lab.container.network.description import has_label
from lab.container.network.model import Network
from lab.container.network.networks import Networks
from lab.container.storage import disk
from lab.container.volumes import description, points
from lab.container.volumes.store import VolumeStore
from lab.errors import LabError
from lab.paths import Paths

CONTAINERS_PRUNED = ("label", "label!", "until")
Filters = Mapping[str, Sequence[str]]


def prune_containers(containers: Containers, filters: Filters) -> tuple[list[str], int]:
    """Remove containers that do not run; return their ids, and the bytes that they had written.

    Raises:
        ContainerError: a filter's value is none.
    """
    removed, freed = [], 0
    wanted = _container_condition(filters)
    for container in containers.all():
        if container.status not in ACTIVE and wanted(container):
            size_bytes = disk.content_bytes(container.state.upper)
            try:
                containers.remove(container.id)
            except LabError:  # it was started or removed meanwhile
                continue
            removed.append(container.id)
            freed += size_bytes
    return removed, freed


def _container_condition(filters: Filters) -> Callable[[Container], bool]:
    now_ns = time.time_ns()
    until = [until_ns(text, now_ns) for text in filters.get("until", ())]

    def has(container: Container, text: str) -> bool:
        return labels.hold(inspection.labels(container), text)

    return lambda container: (
        all(container.record.created_ns < instant for instant in until)
        and all(has(container, text) for text in filters.get("label", ()))
        and not any(has(container, text) for text in filters.get("label!", ()))
    )


def prune_images(store: ImageStore, filters: Filters, *, with_names: bool) -> Removed:
    """Remove images that no container uses: those without a name, or also those ``with_names``.

    Raises:
        ContainerError: a filter's value is none.
    """
    holds = conditions(filters, lambda _: 0, time.time_ns())

    def wanted(image: StoredImage) -> bool:
        listed = Listed(names=(), config=image.config)
        return all(condition(listed) for condition in holds)

    return store.prune(wanted, with_names=with_names)


def prune_networks(containers: Containers, filters: Filters) -> list[str]:
    """Remove networks that no container uses, and return their names.

    Raises:
        ContainerError: a filter's value is none.
    """
    now_ns = time.time_ns()
    until = [until_ns(text, now_ns) for text in filters.get("until", ())]
    wanted = [has_label(text) for text in filters.get("label", ())]
    spared = [has_label(text) for text in filters.get("label!", ())]
    used, removed = members(containers), []
    for network in sorted(Networks(containers.paths).made(), key=lambda each: each.name):
        meant = all(network.created_ns < instant for instant in until) and all(holds(network) for holds in wanted)
        if meant and not any(holds(network) for holds in spared) and not used.get(network.id):
            with contextlib.suppress(LabError):  # somebody has just connected a container
                remove_network(containers.paths, network)
                removed.append(network.name)
    return removed


def remove_network(paths: Paths, network: Network) -> None:
    """Remove a network, and note it.

    Raises:
        LabError: it cannot be removed.
    """
    Networks(paths).remove(network)
    event_actors.note_network(paths.run, "destroy", network.id, {"name": network.name, "type": network.driver})


def prune_volumes(paths: Paths, filters: Filters, *, with_named: bool) -> tuple[list[str], int]:
    """Remove volumes that no container has; return their names, and the bytes that they had.

    Raises:
        ContainerError: a filter's value is none.
    """
    store, removed, freed = VolumeStore(paths), [], 0
    store.remove_unfinished()
    used = points.users(paths.containers)
    holds = description.conditions(filters, used)
    for volume in store.all():
        wanted = with_named or volume.is_anonymous
        if not wanted or volume.name in used or not all(condition(volume) for condition in holds):
            continue
        size_bytes = store.size_bytes(volume.name)
        try:
            store.remove(volume.name)
        except LabError:  # it was used or removed meanwhile
            continue
        removed.append(volume.name)
        freed += size_bytes
    return removed, freed
