"""Volumes, directories of the host and file systems in memory that a container gets, or loses, while it exists.

What is changed is kept with the container, so that its next start mounts the same; of one that runs, the mount comes or
goes at once. It is kept before it is mounted, and forgotten after it is unmounted: a kill at any instant leaves a mount
that the next start makes, or that ``remove`` takes away again, and never one of a volume that nobody seems to use.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from lab.container import bind_source, events, init_plan, inside, starting, user_namespace
from lab.container.containers import Container, Containers
from lab.container.options import mounts as mount_options
from lab.container.options.run import RunOptions
from lab.container.record import ContainerRecord
from lab.container.spec.image import ExecutionConfig
from lab.container.spec.runtime import Mount, Spec, Status
from lab.container.state import ContainerState
from lab.container.volumes import making, mounting, points, use
from lab.container.volumes.model import MountPoint
from lab.errors import KernelError, SpecError, StateConflict, UnavailableError
from lab.linux import mount, procfs


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What is to be mounted: texts of --volume, --mount and --tmpfs."""

    volumes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """All that a container keeps of what is mounted in it."""

    record: ContainerRecord
    spec: Spec
    points: tuple[MountPoint, ...]


def add(containers: Containers, reference: str, wishes: Wishes) -> None:
    """Mount more in a container, at once if it runs, and at each start.

    Raises:
        NoSuchContainer: there is none.
        SpecError: a wish is wrong.
        StateConflict: something is mounted there already, or below it.
        UnavailableError: it runs, and this user may not mount in it.
        ContainerError: a volume could not be filled, or the kernel refused; the container is as before.
    """
    if not (wishes.volumes or wishes.mounts or wishes.tmpfs):
        raise SpecError("nothing is to be mounted", hint="lab mount add -v data:/data CONTAINER")
    container = containers.get(reference)
    options = RunOptions(image="", volumes=wishes.volumes, mounts=wishes.mounts)
    memory = (*map(mount_options.tmpfs, wishes.tmpfs), *mount_options.tmpfs_of_mounts(wishes.mounts))
    layers = container.state.layers
    with making.made(containers.paths, options, ExecutionConfig(), layers, containers.find) as found:
        starting.make_sources(options)
        with containers.engine.directory.locked(container.id):
            before = _kept(containers, container)
            new = (*points.mounts(found), *memory)
            _require_free(container, before.spec, new)
            state = containers.engine.state(container.id)
            _save(containers, container, _with(before, wishes, found, new))
            try:
                with mounting.in_use(containers.paths, (each.name for each in found)):
                    _mount_all(state, before.spec, new)
            except BaseException:
                _save(containers, container, before)
                raise
            _tell(containers, state, "mount", found)
    events.note(container.state.bundle, "update")


def remove(containers: Containers, reference: str, paths: Sequence[str], *, lazily: bool = False) -> None:
    """Unmount what the user has had mounted at paths of a container, and mount it no more when it starts.

    ``lazily`` it goes even while it is in use, for who uses it only when he is done with it. Volumes stay.

    Raises:
        NoSuchContainer: there is none.
        StateConflict: nothing of the user's is mounted there, or it is in use, or something else is mounted below it.
        UnavailableError: it runs, and this user may not unmount in it.
        FileError: the kernel refused.
    """
    container = containers.get(reference)
    wanted = sorted({os.path.normpath(path) for path in paths}, key=lambda path: -path.count("/"))
    with containers.engine.directory.locked(container.id):
        before = _kept(containers, container)
        for path in wanted:
            _require_removable(container, before, path, wanted)
        state = containers.engine.state(container.id)
        for path in wanted:
            if state.status == Status.RUNNING:
                _unmount(container, state, before.spec, path, lazily=lazily)
            left = tuple(each for each in before.points if each.destination == path)
            before = _without(before, path)
            _save(containers, container, before)
            _tell(containers, state, "unmount", left)
            for each in left:
                if each.name:
                    mounting.release(containers.paths, each.name)
    events.note(container.state.bundle, "update")


# -- what is kept ------------------------------------------------------------------------------------------------------


def _kept(containers: Containers, container: Container) -> _Kept:
    bundle = container.state.bundle
    spec = containers.engine.directory.load_spec(container.id)
    return _Kept(record=ContainerRecord.load(bundle), spec=spec, points=points.read(bundle))


def _save(containers: Containers, container: Container, kept: _Kept) -> None:
    points.save(container.state.bundle, kept.points)
    containers.engine.directory.save_spec(container.id, kept.spec)
    kept.record.save(container.state.bundle)
    containers.engine.runtime.forget_plan(container.id)


def _tell(containers: Containers, state: ContainerState, action: str, found: tuple[MountPoint, ...]) -> None:
    if state.status == Status.RUNNING:
        use.note_change(containers.paths, state, action, found)
        use.note_left(containers.paths, state, points.read(state.bundle))


def _with(before: _Kept, wishes: Wishes, found: tuple[MountPoint, ...], new: tuple[Mount, ...]) -> _Kept:
    options = before.record.options
    options = replace(
        options,
        volumes=(*options.volumes, *wishes.volumes),
        mounts=(*options.mounts, *wishes.mounts),
        tmpfs=(*options.tmpfs, *wishes.tmpfs),
    )
    return _Kept(
        record=replace(before.record, options=options),
        spec=replace(before.spec, mounts=(*before.spec.mounts, *new)),
        points=(*before.points, *found),
    )


def _without(before: _Kept, path: str) -> _Kept:
    options = before.record.options
    options = replace(
        options,
        volumes=tuple(each for each in options.volumes if mount_options.destination_of_volume(each) != path),
        mounts=tuple(each for each in options.mounts if mount_options.destination_of_mount(each) != path),
        tmpfs=tuple(each for each in options.tmpfs if mount_options.destination_of_tmpfs(each) != path),
    )
    return _Kept(
        record=replace(before.record, options=options),
        spec=replace(before.spec, mounts=tuple(each for each in before.spec.mounts if each.destination != path)),
        points=tuple(each for each in before.points if each.destination != path),
    )


def _require_free(container: Container, spec: Spec, new: Iterable[Mount]) -> None:
    """See that nothing is mounted yet where something new is to be, nor below it, where it would be hidden."""
    taken = {each.destination for each in spec.mounts}
    for each in new:
        if each.destination in taken:
            raise StateConflict(
                f"Duplicate mount point: {each.destination}", hint=f"lab mount rm {container.name} {each.destination}"
            )
        _require_nothing_below(each.destination, taken)
        taken.add(each.destination)


def _require_removable(container: Container, kept: _Kept, path: str, wanted: Sequence[str]) -> None:
    options = kept.record.options
    memory = (*map(mount_options.destination_of_tmpfs, options.tmpfs), *map(_of_memory, options.mounts))
    if path not in (*(each.destination for each in kept.points), *memory):
        raise StateConflict(
            f"nothing that was asked for is mounted at {path} of container {container.name}",
            hint=f"lab inspect -f '{{{{json .Mounts}}}}' {container.name}",
        )
    _require_nothing_below(path, {each.destination for each in kept.spec.mounts} - set(wanted))


def _of_memory(text: str) -> str:
    return "".join(each.destination for each in mount_options.tmpfs_of_mounts((text,)))


def _require_nothing_below(path: str, taken: Iterable[str]) -> None:
    for other in sorted(taken):
        if other.startswith(f"{path}/"):
            raise StateConflict(f"{other} is mounted below {path}", hint="the inner one has to go first")


# -- what is mounted ---------------------------------------------------------------------------------------------------


def _mount_all(state: ContainerState, spec: Spec, new: Iterable[Mount]) -> None:
    if state.status != Status.RUNNING:
        return
    _require_root()
    done: list[str] = []
    try:
        for each in sorted(new, key=lambda each: each.destination.count("/")):
            _mount(state, spec, each)
            done.insert(0, each.destination)
    except BaseException:
        with suppress(inside.FileError):
            inside.detach(state, spec, tuple(done), lazily=True)
        raise


def _mount(state: ContainerState, spec: Spec, wanted: Mount) -> None:
    mappings = (spec.linux.uid_mappings, spec.linux.gid_mappings)
    uid, gid = (each[0].host_id if each else 0 for each in mappings)
    try:
        source = _in_memory(state, spec, wanted) if wanted.type == "tmpfs" else _of_host(wanted)
    except OSError as error:
        raise KernelError("mount", wanted.destination, f"{error.filename or ''}: {error.strerror}") from error
    try:
        if init_plan.has_users(spec.linux):
            with open(f"/proc/{state.pid}/ns/user", "rb") as users:
                user_namespace.show_ids(source, mount.AT_RECURSIVE, users.fileno(), path=wanted.destination)
        inside.attach(state, spec, source, wanted.destination, owner=(uid, gid))
    finally:
        os.close(source)
    if bind_source.READ_ONLY_TOP in wanted.options:
        inside.make_read_only(state, spec, wanted.destination)


def _of_host(wanted: Mount) -> int:
    source, recursive, attributes, propagation, subpath = init_plan.bind_arguments(wanted)
    cloned = bind_source.clone(source, subpath, recursive=recursive)
    below = mount.AT_RECURSIVE if recursive else 0
    mount.mount_setattr(cloned, "", mount.AT_EMPTY_PATH | below, attributes, 0, propagation)
    return cloned


def _in_memory(state: ContainerState, spec: Spec, wanted: Mount) -> int:
    """Return a new tmpfs; without a mode of its own it has that of the directory that it is to cover."""
    flags = tuple(option for option in wanted.options if "=" not in option)
    settings = [option for option in wanted.options if "=" in option]
    covered = inside.look(state, spec, wanted.destination, follow=True)
    if covered is not None and not any(option.startswith("mode=") for option in settings):
        settings.append(f"mode={stat.S_IMODE(covered.mode):o}")
    context = mount.fsopen("tmpfs", mount.FSOPEN_CLOEXEC)
    try:
        for option in settings:
            name, _, value = option.partition("=")
            mount.fsconfig_set_string(context, name, value)
        mount.fsconfig_create(context, "tmpfs")
        return mount.fsmount(context, mount.FSMOUNT_CLOEXEC, init_plan.mount_attributes(flags))
    finally:
        os.close(context)


def _unmount(container: Container, state: ContainerState, spec: Spec, path: str, *, lazily: bool) -> None:
    _require_root()
    busy = inside.detach(state, spec, (*_below(state.pid, path), path), lazily=lazily)
    if busy:
        raise StateConflict(
            f"{busy} is in use by processes of container {container.name}",
            hint=f"lab mount rm --force {container.name} {path} unmounts it when they are done with it",
        )


def _below(pid: int, path: str) -> tuple[str, ...]:
    """Return the mount points below a path of a running container, the last one first."""
    found = (each.mount_point for each in procfs.mountinfo_of(pid))
    return tuple(reversed([each for each in found if each.startswith(f"{path}/")]))


def _require_root() -> None:
    if os.geteuid():
        raise UnavailableError(
            "an ordinary user cannot mount in a container that runs", hint="stop it first; the next start mounts it"
        )
