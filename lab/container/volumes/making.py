"""What a container is to have mounted -> its mount points: volumes are found or made, and filled if they are empty."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

from lab.container.options import mounts
from lab.container.options.mounts import MountRequest
from lab.container.options.run import RunOptions
from lab.container.spec.image import ExecutionConfig
from lab.container.volumes import driver, filling, mounting, points
from lab.container.volumes.model import MountPoint, MountType
from lab.container.volumes.store import VolumeStore
from lab.errors import ContainerError, NoSuchVolume, SpecError, StateConflict
from lab.paths import Paths

_RPRIVATE = "rprivate"


def inherited(texts: Iterable[tuple[str, str]], containers: str) -> dict[str, MountPoint]:
    """Return what other containers have, by path; each text is a whole id, and "ro", "rw", "z" or "".

    Raises:
        SpecError: the mode is none.
    """
    found: dict[str, MountPoint] = {}
    for container_id, mode in texts:
        wanted = {part for part in mode.split(",") if part}
        if wanted - {"ro", "rw", "z", "Z"}:
            raise SpecError(f"invalid volumes-from mode: {mode}", hint="ro or rw")
        for point in points.read(os.path.join(containers, container_id)):
            found[point.destination] = MountPoint(
                type=point.type,
                source=point.source,
                destination=point.destination,
                name=point.name,
                writable=point.writable and "ro" not in wanted,
                recursive=point.recursive,
                read_only_top=point.read_only_top,
                propagation=point.propagation,
                subpath=point.subpath,
            )
    return found


@contextmanager
def made(
    paths: Paths,
    options: RunOptions,
    image: ExecutionConfig,
    layers: tuple[str, ...],
    find: Callable[[str], str],
) -> Iterator[tuple[MountPoint, ...]]:
    """Give the mount points of a container that is made in the block; its anonymous volumes go if that fails.

    Raises:
        SpecError: an option is wrong.
        NoSuchContainer: --volumes-from names none.
        ContainerError: a volume could not be filled.
    """
    requests = mounts.requests(options.volumes, options.mounts, image.volumes)
    asked = {each.destination for each in mounts.requests(options.volumes, options.mounts, ())}
    texts = (text.partition(":") for text in options.volumes_from)
    others = inherited(((find(name), mode) for name, _, mode in texts), paths.containers)
    store, found = VolumeStore(paths), dict[str, MountPoint]()
    try:
        with store.kept():
            for request in requests:
                if request.destination in asked or request.destination not in others:
                    found[request.destination] = _point(paths, store, request, layers)
            every = {**others, **found}
            yield tuple(every[path] for path in sorted(every))
    except BaseException:
        remove_owned(store, found.values())
        raise


def leave(paths: Paths, found: tuple[MountPoint, ...], *, removes: bool) -> None:
    """Let go of the volumes of a container that is gone; with ``removes`` its anonymous ones go as well."""
    if removes:
        remove_owned(VolumeStore(paths), found)
    for name in {each.name for each in found if each.name}:
        mounting.release(paths, name)


def remove_owned(store: VolumeStore, found: Iterable[MountPoint]) -> None:
    """Remove the anonymous volumes of a container that is gone, but for those that others have by now."""
    for each in found:
        if each.owned:
            with suppress(NoSuchVolume, StateConflict):
                store.remove(each.name)


def _point(paths: Paths, store: VolumeStore, request: MountRequest, layers: tuple[str, ...]) -> MountPoint:
    if request.type == MountType.BIND:
        return _bind(request)
    try:
        volume = store.create(request.source, labels=request.labels, options=request.driver_options)
    except SpecError as error:
        raise SpecError(f"create {request.source}: {error}", hint=error.hint) from None
    source = store.source(volume)
    if request.copies and not request.subpath and not driver.is_forgotten(volume.options):
        fill = filling.fill_within if driver.is_mounted(volume.options) else filling.fill
        try:
            with mounting.in_use(paths, (volume.name,)):
                fill(store.path(volume.name), source, request.destination, layers)
        except OSError as error:
            raise ContainerError(
                f"volume {volume.name} cannot take the image's content: {error.filename or ''}: {error.strerror}",
                hint="lab system df",
            ) from error
    return MountPoint(
        type=MountType.VOLUME,
        name=volume.name,
        source=source,
        subpath=request.subpath,
        destination=request.destination,
        mode=request.mode,
        writable=request.writable and (not driver.is_bind(volume.options) or driver.is_writable(volume.options)),
        owned=not request.source,
    )


def _bind(request: MountRequest) -> MountPoint:
    if request.required and not os.path.exists(request.source):
        raise SpecError(
            f'invalid mount config for type "bind": bind source path does not exist: {request.source}',
            hint=f"mkdir {request.source}",
        )
    return MountPoint(
        type=MountType.BIND,
        source=request.source,
        destination=request.destination,
        mode=request.mode,
        writable=request.writable,
        recursive=request.recursive,
        read_only_top=request.read_only_top,
        propagation=request.propagation or _RPRIVATE,
    )
