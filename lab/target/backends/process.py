"""The arm "process": the payload on the host's kernel without namespaces, in a chroot and a cgroup of its own.

It is what the other arms are compared with: the same image as root, the same limits, the same spawner, and nothing
else between the program and the kernel.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from tempfile import TemporaryDirectory

from lab.container import resources
from lab.container.image.store import ImageStore
from lab.container.init_plan import InitOp
from lab.container.output import Drain
from lab.container.spawner_client import Running, SpawnerClient, SpawnerDied, Stdio
from lab.container.spec.runtime import Resources
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount, unmount_below
from lab.errors import LabError, TargetError
from lab.linux.cgroup import layout as cgroup
from lab.paths import Paths
from lab.target.backends.cgroup_footprint import cgroup_directories
from lab.target.backends.failures import cannot, no_endpoint
from lab.target.backends.process_root import ProcessRoot, leftovers, plan_exec, plan_start
from lab.target.backends.spawned import SpawnedProgram
from lab.target.protocol import Backend
from lab.target.spec import (
    Availability,
    Command,
    Endpoint,
    Execution,
    Footprint,
    MarkName,
    MarkSink,
    TargetSpec,
)
from lab.units import NS_PER_S

_NAME = "process"
_HOST = "127.0.0.1"  # no network namespace: a service listens on the host's own loopback
_TERM_GRACE_NS = 3 * NS_PER_S
_KILL_GRACE_NS = 10 * NS_PER_S  # how long the kernel may take to end what SIGKILL has hit


def open_backend(name: str, paths: Paths) -> Backend:
    """Return the backend of bare processes, with a spawner of its own."""
    del name  # there is one only
    return ProcessBackend(paths)


class ProcessBackend:
    """No isolation but a root directory and limits."""

    def __init__(self, paths: Paths) -> None:
        """Start nothing yet."""
        self._paths = paths
        self._layout = cgroup.detect()
        self._spawner = SpawnerClient(paths.cache)
        self._drain = Drain()

    @property
    def name(self) -> str:
        """What users type and reports print."""
        return _NAME

    def check(self) -> Availability:
        """Return whether this host can, by stacking an overlay and making a limited cgroup once."""
        if os.geteuid() != 0:
            return Availability(available=False, reason="chroot, mounts and cgroups need root", hint="use sudo")
        try:
            self._try()
        except (LabError, OSError) as error:
            return cannot(error)
        facts = (("isolation", "process"), ("accelerator", "none"), ("cgroup_layout", str(self._layout.kind)))
        return Availability(available=True, facts=facts)

    def _try(self) -> None:
        os.makedirs(self._paths.root, exist_ok=True)
        with TemporaryDirectory(dir=self._paths.root, prefix="check-") as directory:
            lower, upper, work, target = (os.path.join(directory, name) for name in "luwt")
            for path in (lower, upper, work, target):
                os.mkdir(path)
            mount_overlay(Overlay(lower=(lower,), upper=upper, work=work), target)
            unmount(target)
        limits = resources.limits(vcpus=1, memory_bytes=64 * 1024 * 1024, pids=16)
        with _limited(self._layout, f"lab-check-{os.getpid()}", limits):
            pass
        cgroup.remove(self._layout, f"lab-check-{os.getpid()}", deadline_ns=_soon())

    def provision(self, spec: TargetSpec, marks: MarkSink) -> ProcessTarget:
        """Lay out a writable layer over the image; nothing runs, nothing is mounted.

        Raises:
            ImageNotFound: the store has no such manifest.
            TargetError: it could not be laid out; nothing is left.
        """
        limits = spec.limits
        wanted = resources.limits(vcpus=limits.vcpus, memory_bytes=limits.memory_bytes, pids=limits.pids)
        if missing := resources.unenforceable(wanted, self._layout):
            raise TargetError(
                f"no cgroup controller for {', '.join(missing)} on this host", backend=_NAME, phase="provision"
            )
        self.repair()
        root = ProcessRoot(
            path=os.path.join(self._paths.processes, spec.name),
            cgroup=os.path.join(spec.cgroup_parent, spec.name),
            lower=ImageStore.open(self._paths).layer_directories(spec.image),
        )
        try:
            self._spawner.ensure()
            root.make()
        except OSError as error:
            raise TargetError(str(error), backend=_NAME, phase="provision") from error
        program = SpawnedProgram(_NAME, spec, marks, self._drain)
        return ProcessTarget(self._spawner, self._layout, root, program, spec, marks, wanted)

    def repair(self) -> None:
        """Remove what killed commands left: their processes, cgroups, mounts and directories."""
        for root in leftovers(self._paths.processes):
            if root.cgroup:
                cgroup.kill(self._layout, root.cgroup, deadline_ns=_soon())
                cgroup.remove(self._layout, root.cgroup, deadline_ns=_soon())
            root.remove()

    def close(self) -> None:
        """Let the spawner go, and with it whatever it has started; safe to call twice."""
        self._spawner.close()


class ProcessTarget:
    """One bare process and its descendants."""

    def __init__(
        self,
        spawner: SpawnerClient,
        layout: cgroup.CgroupLayout,
        root: ProcessRoot,
        program: SpawnedProgram,
        spec: TargetSpec,
        marks: MarkSink,
        limits: Resources,
    ) -> None:
        """Take over a root that has been laid out."""
        self._spawner = spawner
        self._layout = layout
        self._root = root
        self._program = program
        self._spec = spec
        self._marks = marks
        self._limits = limits
        self._running: Running | None = None
        self._was_killed = False

    @property
    def spec(self) -> TargetSpec:
        """What was asked for."""
        return self._spec

    def start(self) -> None:
        """Start the main command; what it raises is said in the protocol."""
        try:
            self._program.start(self._launch)
        except BaseException:
            running, self._running = self._running, None
            self._end()
            if running is not None:
                running.close()
            raise

    def _launch(self, stdio: Stdio) -> Running:
        if self._was_killed:  # whatever is born into a cgroup that was killed at a stroke (v2) is killed as well
            cgroup.remove(self._layout, self._root.cgroup, deadline_ns=_soon())
        with _limited(self._layout, self._root.cgroup, self._limits):
            self._running = self._spawn(plan_start(self._root, self._spec, self._task_files()), stdio)
        return self._running

    def _spawn(self, plan: Sequence[InitOp], stdio: Stdio) -> Running:
        with _unified(self._layout, self._root.cgroup) as descriptor:
            return self._spawner.spawn(plan, flags=0, stdio=stdio, cgroup=descriptor)

    def _task_files(self) -> tuple[str, ...]:
        """Return the files through which the child joins its v1 cgroups, as a container's does."""
        v1 = (hierarchy for hierarchy in self._layout.hierarchies if hierarchy.version == 1)
        directories = (hierarchy.directory(self._root.cgroup) for hierarchy in v1)
        return tuple(os.path.join(path, "tasks") for path in directories if os.path.isdir(path))

    def exec(self, command: Command) -> Execution:
        """Run a program beside the main one; what it raises is said in the protocol."""
        if self._running is None:
            raise self._program.failure("it does not run", "exec")
        return self._program.exec(
            command, lambda stdio: self._spawn(plan_exec(self._root, command, self._task_files()), stdio)
        )

    def footprint(self) -> Footprint:
        """Return the cgroups and processes; the spawner serves all bare processes."""
        spawner = self._spawner.pid
        return Footprint(
            cgroups=cgroup_directories(self._layout, self._root.cgroup),
            pids=cgroup.processes(self._layout, self._root.cgroup),
            shared_daemons=() if spawner is None else (("spawner", spawner),),
        )

    def endpoint(self) -> Endpoint:
        """Return where the service answers.

        Raises:
            TargetError: it is no service.
        """
        if self._spec.service_port is None:
            raise no_endpoint(_NAME)
        return Endpoint(host=_HOST, port=self._spec.service_port)

    def pause(self) -> None:
        """Freeze every process of the target."""
        cgroup.freeze(self._layout, self._root.cgroup, frozen=True, deadline_ns=_soon())

    def resume(self) -> None:
        """Let them go on."""
        cgroup.freeze(self._layout, self._root.cgroup, frozen=False, deadline_ns=_soon())

    def stop(self) -> None:
        """Stop the main command, SIGTERM first, then everything by force; what it mounted goes as well."""
        running, self._running = self._running, None
        if running is None:
            return
        _terminate(running)
        self._end()
        with suppress(SpawnerDied):  # the kernel has killed it
            running.wait(_soon())
        running.close()
        self._marks(MarkName.GONE, running.exited_at_ns)

    def destroy(self) -> None:
        """Remove the target's root, cgroups and mounts."""
        self.stop()
        try:
            self._end()
            cgroup.remove(self._layout, self._root.cgroup, deadline_ns=_soon())
            self._root.remove()
        except OSError as error:
            raise self._program.failure(str(error), "destroy") from error

    def _end(self) -> None:
        try:
            cgroup.kill(self._layout, self._root.cgroup, deadline_ns=_soon())
            self._was_killed = True
        except TimeoutError as error:
            raise self._program.failure(str(error), "stop") from error
        unmount_below(self._root.rootfs)


@contextmanager
def _limited(layout: cgroup.CgroupLayout, path: str, wanted: Resources) -> Iterator[None]:
    """Make a cgroup with these limits for the block, in which it gets its first process; if that fails it goes."""
    try:
        cgroup.create(layout, path, (*cgroup.TARGET_CONTROLLERS, *resources.controllers(wanted)))
        cgroup.write(layout, path, resources.plan(wanted, layout))
        yield
    except BaseException:
        cgroup.kill(layout, path, deadline_ns=_soon())
        cgroup.remove(layout, path, deadline_ns=_soon())
        raise


@contextmanager
def _unified(layout: cgroup.CgroupLayout, path: str) -> Iterator[int | None]:
    """Give a descriptor of the cgroup in the v2 hierarchy, to be born in; None on a host without one."""
    hierarchy = layout.hierarchy("")
    if hierarchy is None:
        yield None
        return
    descriptor = os.open(hierarchy.directory(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _terminate(running: Running) -> None:
    with suppress(ProcessLookupError, SpawnerDied):
        descriptor = os.pidfd_open(running.pid)
        try:
            if running.wait(time.monotonic_ns()) is None:  # so the pid is still its own
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                running.wait(time.monotonic_ns() + _TERM_GRACE_NS)
        finally:
            os.close(descriptor)


def _soon() -> int:
    return time.monotonic_ns() + _KILL_GRACE_NS
