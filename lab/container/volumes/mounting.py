"""Volumes that are file systems of their own: mounted at their first use, unmounted with their last user.

    volumes/<name>/volume.ext4   what a volume with a size is kept in: a file with holes, as a loop device
    volumes/<name>/mount.lock    shared by who uses the mount, alone for who mounts or unmounts

Such a volume is mounted at its ``_data`` on the host while containers that have it run, or a command works on it. Who
unmounts it looks for such containers first, and leaves it to the next one if somebody holds the lock: so a mount that a
killed command has left goes with the next command that has to do with the volume, or with ``lab system check``. A loop
device goes by itself with what is mounted from it.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from lab.container.spec.runtime import Status
from lab.container.state import ContainerDirectory
from lab.container.storage.durable import locked, locked_if_free, shared
from lab.container.volumes import driver, points
from lab.container.volumes.model import Volume
from lab.container.volumes.store import DATA, IMAGE, MOUNT_LOCK, VolumeStore, unmounted
from lab.errors import ContainerError, KernelError, NoSuchContainer, UnavailableError
from lab.linux import loop, mount
from lab.paths import Paths

_ATTEMPTS = 16


@contextmanager
def in_use(paths: Paths, names: Iterable[str]) -> Iterator[None]:
    """Have volumes mounted for the block; those that no container uses by its end are unmounted then.

    Volumes that need no mounting cost nothing; names that mean nothing are no error.

    Raises:
        KernelError: one cannot be mounted, in docker's words.
        UnavailableError: this user, or this host, cannot.
    """
    found = [volume for volume in VolumeStore(paths).some(names) if driver.is_mounted(volume.options)]
    try:
        with ExitStack() as stack:
            for volume in found:
                stack.enter_context(_held(paths, volume))
            yield
    finally:
        for volume in found:
            release(paths, volume.name)


@contextmanager
def _held(paths: Paths, volume: Volume) -> Iterator[None]:
    store = VolumeStore(paths)
    lock, data = os.path.join(store.path(volume.name), MOUNT_LOCK), store.data(volume.name)
    for _ in range(_ATTEMPTS):
        with locked(lock):
            mount_at(store.path(volume.name), volume)
        with shared(lock):
            if os.path.ismount(data):  # else somebody has unmounted it between the two locks
                yield
                return
    raise ContainerError(f"volume {volume.name} is unmounted again and again", hint="lab system check")


def release(paths: Paths, name: str) -> bool:
    """Unmount a volume that no running container has; return whether nothing is mounted for it now."""
    store = VolumeStore(paths)
    data = store.data(name)
    if not os.path.ismount(data):
        return True
    with locked_if_free(os.path.join(store.path(name), MOUNT_LOCK)) as is_free:
        if not is_free or name in running(paths):
            return False
        return unmounted(data)


def release_all(paths: Paths) -> None:
    """Unmount every volume that no running container has."""
    for name in mounted(paths):
        release(paths, name)


def mounted(paths: Paths) -> tuple[str, ...]:
    """Return the names of the volumes for which something is mounted."""
    store = VolumeStore(paths)
    return tuple(each.name for each in store.all() if os.path.ismount(store.data(each.name)))


def idle(paths: Paths) -> tuple[str, ...]:
    """Return the names of the volumes that are mounted, though no container that runs has them, and nobody else."""
    store, users = VolumeStore(paths), running(paths)
    found = []
    for name in mounted(paths):
        with locked_if_free(os.path.join(store.path(name), MOUNT_LOCK)) as is_free:
            if is_free and name not in users:
                found.append(name)
    return tuple(found)


def running(paths: Paths) -> frozenset[str]:
    """Return the names of the volumes that containers have which run."""
    directory = ContainerDirectory(paths.containers)
    return frozenset(
        name
        for name, ids in points.users(paths.containers).items()
        if any(_is_running(directory, container_id) for container_id in ids)
    )


def _is_running(directory: ContainerDirectory, container_id: str) -> bool:
    try:
        return directory.load(container_id).status == Status.RUNNING
    except NoSuchContainer:
        return False


def mount_found(directory: str) -> None:
    """Mount the volume of this directory in this mount namespace; what it raises is said at ``mount_at``."""
    store = VolumeStore(Paths.under(os.path.dirname(os.path.dirname(directory))))
    for volume in store.some((os.path.basename(directory),)):
        mount_at(directory, volume)


_UNKNOWN_HINT = "this kernel has no file system {0!r} now: modprobe {0}; grep {0} /proc/filesystems"


def mount_at(directory: str, volume: Volume) -> None:
    """Mount a volume in this mount namespace, if it is not and has to be; ``directory`` is the volume's own.

    Raises:
        KernelError: it cannot be mounted, in docker's words.
        UnavailableError: this user, or this host, cannot.
    """
    data = os.path.join(directory, DATA)
    if not driver.is_mounted(volume.options) or os.path.ismount(data):
        return
    if os.geteuid():
        raise UnavailableError(f"an ordinary user cannot mount volume {volume.name}", hint="use a volume without -o")
    if driver.size_bytes(volume.options):
        _mount_image(os.path.join(directory, IMAGE), data)
    else:
        _mount(driver.host_mount(volume.options), data)


def _mount_image(image: str, data: str) -> None:
    try:
        with loop.device(image) as device:
            _mount(driver.HostMount(fstype="ext4", source=device, flags=0, data=""), data)
    except OSError as error:
        raise UnavailableError(
            f"no loop device for {image}: {error.filename or ''}: {error.strerror}", hint="modprobe loop"
        ) from error


def _mount(wanted: driver.HostMount, data: str) -> None:
    if wanted.address:
        wanted = wanted.at_address(_resolved(wanted.address))
    try:
        mount.mount(wanted.source, data, wanted.fstype, wanted.flags, wanted.data)
    except OSError as error:
        flags = f", flags: {wanted.flags:#x}" if wanted.flags else ""
        options = f", data: {wanted.shown_data}" if wanted.data else ""
        is_unknown = error.errno == errno.ENODEV
        raise KernelError(
            f"error while mounting volume '{data}': failed to mount local volume: mount",
            f"{wanted.source}:{data}{flags}{options}",
            os.strerror(error.errno or 0).lower(),
            hint=_UNKNOWN_HINT.format(wanted.fstype) if is_unknown else "lab volume inspect shows its options",
        ) from error


def _resolved(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError as error:
        raise UnavailableError(
            f"failed to mount local volume: error resolving passed in network volume address: {name}: {error.strerror}",
            hint="give its address: -o o=addr=192.0.2.7",
        ) from error
