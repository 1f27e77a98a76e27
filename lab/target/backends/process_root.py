"""Where a bare process lives: its directory on disk, and the plan that brings it there.

The steps are those of a container, without the namespaces: the same overlay, the same few files in /dev, the same
binds. Its mounts are therefore the host's, and have to be unmounted; they are private, so that no unmounting reaches
what was bound.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from lab.container import init_calls as calls
from lab.container import init_plan
from lab.container.defaults import PATH
from lab.container.init import MARK
from lab.container.init_plan import InitOp
from lab.container.spec.runtime import Mount
from lab.container.storage import durable
from lab.container.storage.snapshots import unmount_below
from lab.linux import mount
from lab.target.spec import Command, TargetSpec, Volume

SCRATCH_PATH = "/data"
_FIRST_BIND_DESCRIPTOR = 200
_NOTHING_SPECIAL = ("nosuid", "nodev", "noexec")
_PROC = Mount(destination="/proc", type="proc", source="proc", options=_NOTHING_SPECIAL)
_SYS = Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_NOTHING_SPECIAL, "ro"))
_DEV = Mount(
    destination="/dev", type="tmpfs", source="tmpfs", options=("nosuid", "strictatime", "mode=755", "size=65536k")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRoot:
    """The directory of one bare process. ``cgroup`` is relative to every hierarchy's root; ``lower`` topmost first.

    Its lock is held by whoever provisioned it, as long as that lives: without a holder it is a leftover.
    """

    path: str
    cgroup: str
    lower: tuple[str, ...] = ()
    _held: ExitStack = field(default_factory=ExitStack)

    @property
    def rootfs(self) -> str:
        """Where the overlay is mounted."""
        return os.path.join(self.path, "rootfs")

    @property
    def scratch(self) -> str:
        """The directory that is seen as /data."""
        return os.path.join(self.path, "scratch")

    def make(self) -> None:
        """Lay the directory out, under its lock.

        Raises:
            FileExistsError: there is one of this name.
        """
        os.makedirs(os.path.dirname(self.path), mode=0o711, exist_ok=True)
        with ExitStack() as stack:
            stack.enter_context(durable.locked(f"{self.path}.lock"))
            os.mkdir(self.path, 0o711)
            durable.write_atomically(os.path.join(self.path, "cgroup"), self.cgroup.encode())
            for name in ("upper", "work", "rootfs", "scratch"):
                os.mkdir(os.path.join(self.path, name), 0o755)
            self._held.push(stack.pop_all())

    def remove(self) -> None:
        """Unmount and remove the directory and give the lock up; safe to call twice.

        Raises:
            KernelError: something is mounted below and cannot be unmounted; no file has been removed.
        """
        unmount_below(self.path)
        with suppress(FileNotFoundError):
            shutil.rmtree(self.path)
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path}.lock")
        self._held.close()


def leftovers(directory: str) -> Iterator[ProcessRoot]:
    """Give the roots in ``directory`` whose holder is dead, each under its lock."""
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        if not os.path.isdir(path):
            continue
        with durable.locked_if_free(f"{path}.lock") as held:
            if held:
                yield ProcessRoot(path=path, cgroup=_recorded_cgroup(path))


def _recorded_cgroup(path: str) -> str:
    with suppress(FileNotFoundError), open(os.path.join(path, "cgroup"), encoding="utf-8") as file:
        return file.read()
    return ""  # it was killed before it had one


def plan_start(root: ProcessRoot, spec: TargetSpec, task_files: tuple[str, ...]) -> tuple[InitOp, ...]:
    """Return the steps from clone to exec of the main program; ``task_files`` are those of v1 cgroups."""
    binds = list(enumerate(_volumes(root, spec), start=_FIRST_BIND_DESCRIPTOR))
    upper, work = os.path.join(root.path, "upper"), os.path.join(root.path, "work")
    return (
        InitOp.of(calls.join_cgroups, task_files),
        InitOp.of(calls.new_session),
        InitOp.of(calls.mount_overlay, root.lower, upper, work, root.rootfs, False),
        *(_open_bind(number, volume) for number, volume in binds),
        InitOp.of(calls.change_root, root.rootfs),
        InitOp.of(calls.make_mounts_private),  # of the new root and below: nothing spreads from here
        init_plan.plan_mount(_PROC),
        init_plan.plan_mount(_SYS),
        init_plan.plan_mount(_DEV),
        *init_plan.plan_dev(),
        *(InitOp.of(calls.attach_bind, number, volume.path) for number, volume in binds),
        InitOp.of(calls.make_mounts_private),  # binds came as peers of what they show
        InitOp(MARK, ("environment",)),
        *_plan_program(spec.command),
    )


def _open_bind(number: int, volume: Volume) -> InitOp:
    attributes = mount.MOUNT_ATTR_RDONLY if volume.read_only else 0
    return InitOp.of(calls.open_bind, number, volume.source, True, attributes, mount.MS_PRIVATE)


def plan_exec(root: ProcessRoot, command: Command, task_files: tuple[str, ...]) -> tuple[InitOp, ...]:
    """Return the steps of a further program in the same root and cgroups."""
    return (
        InitOp.of(calls.join_cgroups, task_files),
        InitOp.of(calls.new_session),
        InitOp.of(calls.change_root, root.rootfs),
        *_plan_program(command),
    )


def _plan_program(command: Command) -> Iterator[InitOp]:
    yield InitOp.of(calls.die_with_spawner)
    yield InitOp.of(calls.change_directory, command.cwd)
    yield InitOp.of(calls.execute, command.argv, environment(command))


def environment(command: Command) -> tuple[str, ...]:
    """Return the environment that a container would have, without a host name of its own."""
    given = {name for name, _ in command.env}
    basic = (line for line in (PATH, "HOME=/root") if line.partition("=")[0] not in given)
    return (*basic, *(f"{name}={value}" for name, value in command.env))


def _volumes(root: ProcessRoot, spec: TargetSpec) -> tuple[Volume, ...]:
    scratch = (Volume(source=root.scratch, path=SCRATCH_PATH),) if spec.scratch_bytes else ()
    return (*spec.volumes, *scratch)
