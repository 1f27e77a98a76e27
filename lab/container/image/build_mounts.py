"""``RUN --mount``: the host's side of what is mounted for one step."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from lab.container.image.build_cache import BuildCache
from lab.container.image.build_steps import Execute
from lab.container.image.run_mounts import MountType, RunMount, Sharing
from lab.container.spec.runtime import Mount
from lab.container.storage import durable
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount, unmount_below
from lab.errors import BuildFailed
from lab.linux import mount

_SECRET_MODE = 0o400
_CACHE_MODE = 0o755
_SHARED = "shared"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class BindSource:
    """Where a bind mount comes from, and what it is called in messages.

    ``find`` returns where a path in it is on the host, ``key`` what tells the files at that path apart from others.
    """

    subject: str
    find: Callable[[str], str]
    key: Callable[[str], str]


@contextmanager
def placed(
    action: Execute, places: MountPlaces, work: str, origin: Callable[[str], BindSource]
) -> Iterator[PlacedMounts]:
    """Give the mounts of a command, ready until the block ends; ``origin`` gets a name, "" for the context.

    Raises:
        BuildFailed: a secret that is required was not given, or a source is not there.
    """
    found = PlacedMounts()
    with ExitStack() as stack:
        if action.script:
            found.mounts.append(_script(action, work))
        for wanted in action.mounts:
            match wanted.type:
                case MountType.BIND:
                    _bind(wanted, found, origin)
                case MountType.CACHE:
                    _cache(wanted, found, places, stack)
                case MountType.SECRET:
                    _secret(wanted, found, places, stack)
                case MountType.TMPFS:
                    found.mounts.append(_tmpfs(wanted))
        yield found


def _script(action: Execute, work: str) -> Mount:
    path = os.path.join(tempfile.mkdtemp(dir=work), "script")
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(action.script)
    os.chmod(path, 0o755)
    return Mount(destination=action.args[0], type="bind", source=path, options=("bind", "ro"))


def _bind(wanted: RunMount, found: PlacedMounts, origin: Callable[[str], BindSource]) -> None:
    source = origin(wanted.origin)
    try:
        path = source.find(wanted.source.lstrip("/"))
    except OSError:
        raise BuildFailed(f"--mount: {wanted.source} is not in {source.subject}") from None
    found.content.append(source.key(wanted.source))
    if not wanted.read_only:
        raise BuildFailed("--mount=type=bind,rw is not supported", hint="copy what is to be changed, or use type=cache")
    found.mounts.append(Mount(destination=wanted.target, type="bind", source=path, options=("rbind", "ro")))


def _cache(wanted: RunMount, found: PlacedMounts, places: MountPlaces, stack: ExitStack) -> None:
    if wanted.origin:
        raise BuildFailed("--mount=type=cache,from=… is not supported", hint="copy the files in with RUN")
    directory = places.cache.mount_directory(wanted.id)
    if wanted.sharing is Sharing.LOCKED:
        stack.enter_context(durable.locked(f"{directory}.lock"))
    elif wanted.sharing is Sharing.PRIVATE:
        directory = _private(directory, stack)
    if not os.path.isdir(directory):
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, _CACHE_MODE if wanted.mode is None else wanted.mode)
        os.chown(directory, wanted.uid, wanted.gid)
    option = "ro" if wanted.read_only else "rw"
    found.mounts.append(Mount(destination=wanted.target, type="bind", source=directory, options=("rbind", option)))


def _private(directory: str, stack: ExitStack) -> str:
    """Return the first of a cache's directories that no other step has."""
    number = 0
    while True:
        path = f"{directory}-{number}" if number else directory
        if stack.enter_context(durable.locked_if_free(f"{path}.lock")):
            return path
        number += 1


def _secret(wanted: RunMount, found: PlacedMounts, places: MountPlaces, stack: ExitStack) -> None:
    value = places.secrets.get(wanted.id)
    if value is None:
        if wanted.required:
            raise BuildFailed(f"secret {wanted.id}: not found", hint=f"lab build --secret id={wanted.id},src=FILE")
        return
    if wanted.variable:
        found.env.append(f"{wanted.variable}={value.decode('utf-8', 'surrogateescape')}")
    if not wanted.target:
        return
    os.makedirs(places.run, mode=0o700, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="secret-", dir=places.run)
    stack.callback(shutil.rmtree, directory)
    path = os.path.join(directory, "secret")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(value)
    os.chown(path, wanted.uid, wanted.gid)
    os.chmod(path, _SECRET_MODE if wanted.mode is None else wanted.mode)
    found.mounts.append(Mount(destination=wanted.target, type="bind", source=path, options=("bind", "ro")))


def _tmpfs(wanted: RunMount) -> Mount:
    size = () if wanted.size_bytes is None else (f"size={wanted.size_bytes}",)
    return Mount(destination=wanted.target, type="tmpfs", source="tmpfs", options=("nosuid", "nodev", *size))


@contextmanager
def shared_directory(work: str) -> Iterator[None]:
    """Make a directory below ``work`` for the block, in which mounts are seen by all threads and the spawner alike.

    If this process is killed, the next build unmounts it.
    """
    directory = os.path.join(work, _SHARED)
    os.mkdir(directory, 0o711)
    mount.mount(directory, directory, "", mount.MS_BIND, "")
    try:
        mount.mount("", directory, "", mount.MS_SHARED, "")
        yield
    finally:
        unmount_below(directory)


@contextmanager
def shared_root(layers: Sequence[str], work: str) -> Iterator[str]:
    """Give the files of ``layers``, lowest first, mounted in the shared directory of ``work``.

    It is to be called in the mount namespace in which that was made.
    """
    directory = tempfile.mkdtemp(dir=work)
    root = tempfile.mkdtemp(dir=os.path.join(work, _SHARED))
    upper, overlay_work = os.path.join(directory, "upper"), os.path.join(directory, "work")
    for path in (upper, overlay_work):
        os.mkdir(path, 0o755)
    mount_overlay(Overlay(lower=tuple(reversed(layers)), upper=upper, work=overlay_work, volatile=True), root)
    try:
        yield root
    finally:
        unmount(root)
