"""What takes how much of the disk: images, containers, volumes, build cache, and how much of it could go."""

from __future__ import annotations

import collections
import os
from collections.abc import Sequence
from dataclasses import dataclass

from lab.container.containers import Container, Containers
from lab.container.image.build_cache import BuildCache
from lab.container.image.stored import StoredImage
from lab.container.storage import disk
from lab.container.volumes import points
from lab.container.volumes.store import VolumeStore
from lab.errors import ContainerError
from lab.paths import Paths

ACTIVE = ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUsage:
    """An image: all its bytes, those that it shares with other images, and how many containers are made of it."""

    image: StoredImage
    size_bytes: int
    shared_bytes: int
    containers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerUsage:
    """A container, and the bytes that it has written."""

    container: Container
    size_bytes: int
    volumes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeUsage:
    """A volume, its bytes, and how many containers have it."""

    name: str
    size_bytes: int
    links: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """All that is there; ``layers_bytes`` counts each layer of images once, ``cache_entries`` are steps of builds."""

    images: tuple[ImageUsage, ...]
    layers_bytes: int
    containers: tuple[ContainerUsage, ...]
    volumes: tuple[VolumeUsage, ...]
    cache_entries: int
    cache_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One kind of thing: how many, how many of them in use, all bytes, and those that nobody uses."""

    kind: str
    total: int
    active: int
    size_bytes: int
    reclaimable_bytes: int


def measure(containers: Containers) -> Usage:
    """Return what everything takes; this looks at every file.

    Raises:
        OSError: a file cannot be looked at.
    """
    known = containers.all()
    images, layers_bytes = _images(containers, collections.Counter(each.record.image_id for each in known))
    cache = BuildCache(containers.paths.builds)
    return Usage(
        images=images,
        layers_bytes=layers_bytes,
        containers=tuple(
            ContainerUsage(
                container=each,
                size_bytes=disk.content_bytes(each.state.upper),
                volumes=sum(bool(point.name) for point in points.read(each.state.bundle)),
            )
            for each in known
        ),
        volumes=_volumes(containers.paths),
        cache_entries=_count(os.path.join(containers.paths.builds, "steps")),
        cache_bytes=cache.size_bytes(),
    )


def _images(containers: Containers, users: collections.Counter[str]) -> tuple[tuple[ImageUsage, ...], int]:
    store = containers.images
    images = {image.config_digest: image for image in store.readable()}.values()
    sizes: dict[str, int] = {}  # by chain
    sharers: collections.Counter[str] = collections.Counter()
    for image in images:
        sharers.update(image.chain_ids)
        for chain, source in zip(image.chain_ids, store.layer_sources(image), strict=True):
            if chain not in sizes:
                try:
                    sizes[chain] = store.layers.content_bytes(source)
                except ContainerError:  # a damaged layer must not hide the others
                    sizes[chain] = 0
    found = tuple(
        ImageUsage(
            image=image,
            size_bytes=sum(sizes[chain] for chain in image.chain_ids),
            shared_bytes=sum(sizes[chain] for chain in image.chain_ids if sharers[chain] > 1),
            containers=users[image.config_digest],
        )
        for image in images
    )
    return found, sum(sizes.values())


def _volumes(paths: Paths) -> tuple[VolumeUsage, ...]:
    store, users = VolumeStore(paths), points.users(paths.containers)
    return tuple(
        VolumeUsage(
            name=each.name,
            size_bytes=store.size_bytes(each.name),
            links=len(users.get(each.name, ())),
        )
        for each in store.all()
    )


def _count(directory: str) -> int:
    return len(os.listdir(directory)) if os.path.isdir(directory) else 0


def summarize(usage: Usage) -> tuple[Summary, ...]:
    """Return docker's four kinds: Images, Containers, Local Volumes, Build Cache."""
    needed = sum(each.size_bytes - each.shared_bytes for each in usage.images if each.containers)
    stopped = [each for each in usage.containers if each.container.status not in ACTIVE]
    unused = [each for each in usage.volumes if not each.links]
    return (
        Summary(
            kind="Images",
            total=len(usage.images),
            active=sum(bool(each.containers) for each in usage.images),
            size_bytes=usage.layers_bytes,
            reclaimable_bytes=usage.layers_bytes - needed,
        ),
        _summary("Containers", usage.containers, idle=stopped),
        _summary("Local Volumes", usage.volumes, idle=unused),
        Summary(
            kind="Build Cache",
            total=usage.cache_entries,
            active=0,
            size_bytes=usage.cache_bytes,
            reclaimable_bytes=usage.cache_bytes,
        ),
    )


_Things = Sequence[ContainerUsage] | Sequence[VolumeUsage]


def _summary(kind: str, things: _Things, *, idle: _Things) -> Summary:
    return Summary(
        kind=kind,
        total=len(things),
        active=len(things) - len(idle),
        size_bytes=_size_bytes(things),
        reclaimable_bytes=_size_bytes(idle),
    )


def _size_bytes(things: _Things) -> int:
    return sum(each.size_bytes for each in things)
