"""``RUN --mount``: the host's side of what is mounted for one step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from lab.container.image.build_cache import BuildCache
from lab.container.image.build_select import Choice, Origin, digest, resolve, select
from lab.container.image.build_steps import Execute
from lab.container.image.run_mounts import MountType, RunMount, Sharing
from lab.container.spec.runtime import Mount
from lab.container.storage import durable
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.errors import BuildFailed

_SECRET_MODE = 0o400
_CACHE_MODE = 0o755


@dataclass(slots=True)
class PlacedMounts:
    """Mounts that are ready: ``env`` are secrets as variables, ``content`` digests of files that steps can read."""

    mounts: list[Mount] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountPlaces:
    """Where mounts come from: ``secrets`` by id; ``run`` is a directory that is gone after a reboot."""

    cache: BuildCache
    secrets: Mapping[str, bytes]
    run: str


@contextmanager
def placed(
    action: Execute, places: MountPlaces, work: str, origin: Callable[[str], tuple[Origin, str]]
) -> Iterator[PlacedMounts]:
    """Give the mounts of a command, ready until the block ends.

    ``origin`` tells for a name, "" for the context, where its files are in the host's mount namespace, and their key,
    "" where only their digest tells what they are.

    Raises:
        BuildFailed: a secret that is required was not given, or a source is not there.
    """
    found = PlacedMounts()
    with ExitStack() as stack:
        if action.script:
            found.mounts.append(_script(action, work))
        for mount in action.mounts:
            match mount.type:
                case MountType.BIND:
                    _bind(mount, found, origin)
                case MountType.CACHE:
                    _cache(mount, found, places, stack)
                case MountType.SECRET:
                    _secret(mount, found, places, stack)
                case MountType.TMPFS:
                    found.mounts.append(_tmpfs(mount))
        yield found


def _script(action: Execute, work: str) -> Mount:
    path = os.path.join(tempfile.mkdtemp(dir=work), "script")
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(action.script)
    os.chmod(path, 0o755)
    return Mount(destination=action.args[0], type="bind", source=path, options=("bind", "ro"))


def _bind(mount: RunMount, found: PlacedMounts, origin: Callable[[str], tuple[Origin, str]]) -> None:
    source, key = origin(mount.origin)
    try:
        path = resolve(source.root, mount.source.lstrip("/"))
    except OSError as error:
        raise BuildFailed(f"--mount: {mount.source} is not in {source.subject}: {error.strerror}") from None
    found.content.append(key or digest(select(source, mount.source or "/", Choice())))
    if not mount.read_only:
        raise BuildFailed("--mount=type=bind,rw is not supported", hint="copy what is to be changed, or use type=cache")
    found.mounts.append(Mount(destination=mount.target, type="bind", source=path, options=("rbind", "ro")))


def _cache(mount: RunMount, found: PlacedMounts, places: MountPlaces, stack: ExitStack) -> None:
    if mount.origin:
        raise BuildFailed("--mount=type=cache,from=… is not supported", hint="copy the files in with RUN")
    directory = places.cache.mount_directory(mount.id)
    if mount.sharing is Sharing.LOCKED:
        stack.enter_context(durable.locked(f"{directory}.lock"))
    elif mount.sharing is Sharing.PRIVATE:
        directory = _private(directory, stack)
    if not os.path.isdir(directory):
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, _CACHE_MODE if mount.mode is None else mount.mode)
        os.chown(directory, mount.uid, mount.gid)
    option = "ro" if mount.read_only else "rw"
    found.mounts.append(Mount(destination=mount.target, type="bind", source=directory, options=("rbind", option)))


def _private(directory: str, stack: ExitStack) -> str:
    """Return the first of a cache's directories that no other step has."""
    number = 0
    while True:
        path = f"{directory}-{number}" if number else directory
        if stack.enter_context(durable.locked_if_free(f"{path}.lock")):
            return path
        number += 1


def _secret(mount: RunMount, found: PlacedMounts, places: MountPlaces, stack: ExitStack) -> None:
    value = places.secrets.get(mount.id)
    if value is None:
        if mount.required:
            raise BuildFailed(f"secret {mount.id}: not found", hint=f"lab build --secret id={mount.id},src=FILE")
        return
    if mount.variable:
        found.env.append(f"{mount.variable}={value.decode('utf-8', 'surrogateescape')}")
    if not mount.target:
        return
    os.makedirs(places.run, mode=0o700, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="secret-", dir=places.run)
    stack.callback(shutil.rmtree, directory)
    path = os.path.join(directory, "secret")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
    os.chown(path, mount.uid, mount.gid)
    os.chmod(path, _SECRET_MODE if mount.mode is None else mount.mode)
    found.mounts.append(Mount(destination=mount.target, type="bind", source=path, options=("bind", "ro")))


def _tmpfs(mount: RunMount) -> Mount:
    size = () if mount.size_bytes is None else (f"size={mount.size_bytes}",)
    return Mount(destination=mount.target, type="tmpfs", source="tmpfs", options=("nosuid", "nodev", *size))


@contextmanager
def host_root(layers: Sequence[str], work: str) -> Iterator[str]:
    """Give the files of ``layers``, lowest first, as a directory that other processes of the host see as well.

    If this process is killed, the next build unmounts it.
    """
    directory = tempfile.mkdtemp(dir=work)
    upper, overlay_work, root = (os.path.join(directory, name) for name in ("upper", "work", "root"))
    for path in (upper, overlay_work, root):
        os.mkdir(path, 0o755)
    mount_overlay(Overlay(lower=tuple(reversed(layers)), upper=upper, work=overlay_work, volatile=True), root)
    try:
        yield root
    finally:
        unmount(root)
