"""The life of containers in OCI's words: create, start, exec, kill, pause, delete, state.

It knows directories, cgroups and the spawner; not images, nor where addresses come from.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType

from lab.container import (
    defaults,
    device_program,
    init_plan,
    resources,
    seccomp_profile,
    spawner,
    user_namespace,
)
from lab.container.spawner_client import (
    EncodedPlan,
    Running,
    SpawnerClient,
    SpawnerDied,
    StartFailed,
    Stdio,
    Supervision,
)
from lab.container.spec.runtime import Mount, Process, Resources, Spec, Status
from lab.container.state import ContainerDirectory, ContainerState, ProcessIdentity
from lab.container.storage.trees import remove_tree
from lab.errors import StateConflict
from lab.linux import capabilities
from lab.linux import namespaces as ns
from lab.linux.cgroup import layout as cgroup
from lab.units import NS_PER_S

_GRACE_NS = 10 * NS_PER_S  # how long the kernel may take to end what SIGKILL has hit
_JOINED = ns.CLONE_NEWNS | ns.CLONE_NEWUTS | ns.CLONE_NEWIPC | ns.CLONE_NEWNET | ns.CLONE_NEWCGROUP
_EVERYTHING = capabilities.mask(capabilities.NAMES)
_CGROUP_OPTIONS = ("ro", "nosuid", "nodev", "noexec", "relatime")


def _unattached(state: ContainerState) -> ContainerState:
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class StartPlan:
    """All that a start does, decided when the container is created: the cgroup with its limits, the clone, the child.

    ``encoded`` is ``ops`` as the spawner takes them.
    """

    cgroup_path: str
    controllers: tuple[str, ...]
    writes: tuple[cgroup.CgroupWrite, ...]
    device_program: bytes
    flags: int
    ops: tuple[init_plan.InitOp, ...]
    encoded: EncodedPlan
    pid_namespace: init_plan.Identity | None
    users: user_namespace.Setup | None
    listing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Confinement:
    """What a program executed in a container shares with its first one.

    The filter's profile, the namespaces to enter, and who on the host is ``root`` of one that has users of its own.
    """

    profile: str | None
    joined: int
    has_own_users: bool
    root: tuple[int, int]

    @classmethod
    def of(cls, spec: Spec) -> _Confinement:
        users = init_plan.has_users(spec.linux)
        joined = _JOINED | (ns.CLONE_NEWUSER if users else 0)
        mappings = (spec.linux.uid_mappings, spec.linux.gid_mappings)
        uid, gid = (each[0].host_id if each else 0 for each in mappings)
        return cls(profile=defaults.seccomp_profile(spec), joined=joined, has_own_users=users, root=(uid, gid))


class Runtime:
    """All containers below one directory, started through one spawner."""

    def __init__(self, directory: ContainerDirectory, processes: SpawnerClient, *, cache: str) -> None:
        """``cache`` is where compiled seccomp profiles are kept."""
        self._rootless = os.geteuid() != 0
        found = cgroup.detect()
        self.layout = replace(found, hierarchies=()) if self._rootless else found  # whose cgroups are not his
        self.directory = directory
        self._spawner = processes
        self._cache = cache
        self._bounding_set = capabilities.bounding_set()
        self._filters: dict[tuple[str, frozenset[str]], bytes] = {}
        self._running: dict[str, Running] = {}
        self._confinements: dict[str, _Confinement] = {}
        self._plans: dict[str, StartPlan] = {}  # of containers that we created

    def create(self, state: ContainerState, spec: Spec, files: Mapping[str, str] = MappingProxyType({})) -> None:
        """Lay a container out, with further ``files`` (name, text) in its directory; nothing runs.

        Raises:
            StateConflict: the id is taken.
            UnavailableError: this host cannot enforce one of its limits.
        """
        resources.require(spec.linux.resources, self.layout)
        self.directory.add(state, spec, files)
        if not init_plan.joins(spec.linux):  # whose processes are known when it is started
            self._plans[state.id] = self.plan_start(state, spec)

    def update(self, container_id: str, limits: Resources) -> None:
        """Give a container other limits: at once if it runs, and at its next start; to be called under its lock.

        Raises:
            NoSuchContainer: there is none.
            UnavailableError: this host cannot enforce one of them.
            OSError: the kernel refuses one: with errno and the interface file.
        """
        state, spec = self.directory.load(container_id), self.directory.load_spec(container_id)
        resources.require(limits, self.layout)
        if state.status == Status.RUNNING:
            wanted = (*cgroup.TARGET_CONTROLLERS, *resources.controllers(limits))
            cgroup.widen(self.layout, state.cgroup, wanted)
            writes = resources.plan_update(spec.linux.resources, limits, self.layout)
            cgroup.write(self.layout, state.cgroup, writes)
        self.directory.save_spec(container_id, replace(spec, linux=replace(spec.linux, resources=limits)))
        self._plans.pop(container_id, None)

    def forget_plan(self, container_id: str) -> None:
        """Let the next start of a container be planned anew: it has changed."""
        self._plans.pop(container_id, None)

    def plan_start(self, state: ContainerState, spec: Spec) -> StartPlan:
        """Return all that a start of a container does; it changes nothing."""
        limits, path = spec.linux.resources, spec.linux.cgroups_path
        wanted = (*cgroup.TARGET_CONTROLLERS, *resources.controllers(limits))
        config = self._init_config(state, spec, self.layout.select((*wanted, "")))
        ops = init_plan.plan(config)
        return StartPlan(
            cgroup_path=path,
            controllers=wanted,
            writes=resources.plan(limits, self.layout),
            device_program=resources.device_program(limits, self.layout),
            flags=init_plan.clone_flags(spec.linux),
            ops=ops,
            encoded=self._spawner.encode(ops),
            pid_namespace=init_plan.joined_pid_namespace(spec.linux, config.joined),
            users=init_plan.user_setup(config) if init_plan.has_users(spec.linux) else None,
            listing="" if init_plan.is_first(spec.linux) else self._listing(path),
        )

    def start(
        self,
        container_id: str,
        *,
        stdio: Stdio,
        attach: Callable[[ContainerState], ContainerState] = _unattached,
        supervision: Supervision | None = None,
    ) -> Running:
        """Start a created or stopped container and return once its program runs.

        ``attach`` is asked for the container with its places on its networks, under its lock. With ``supervision``,
        which only the shared spawner offers, the container outlives this process.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it runs already.
            StartFailed: a step failed; the container is as before.
            SpawnerDied: the spawner ended meanwhile; likewise.
        """
        with self.directory.locked(container_id):
            state = self.directory.load(container_id)
            if state.status == Status.RUNNING:
                raise StateConflict(f"container '{container_id}' is running already")
            plan = self._plans.get(container_id)
            if plan is None:
                plan = self.plan_start(state, self.directory.load_spec(container_id))
            if state.volatile:
                # the kernel refuses a second mount while its mark of the first is there
                remove_tree(os.path.join(state.work, "work", "incompat"))
            if state.status == Status.STOPPED:
                # what is born into a v2 cgroup that was once killed at a stroke is killed as well
                cgroup.remove(self.layout, plan.cgroup_path, deadline_ns=_soon())
            state = attach(state)
            try:
                running = self._spawn(plan, state, stdio, supervision)
            except BaseException:
                cgroup.kill(self.layout, plan.cgroup_path, deadline_ns=_soon())
                cgroup.remove(self.layout, plan.cgroup_path, deadline_ns=_soon())
                raise
            if supervision is None:  # else it is the caller's, and its end is on disk
                self._running[container_id] = running
            self._record_start(state, running)
        return running

    def _spawn(
        self,
        plan: StartPlan,
        state: ContainerState,
        stdio: Stdio,
        supervision: Supervision | None,
    ) -> Running:
        """Have the process cloned while the cgroups are made and limited; it waits for that before anything else."""
        with ExitStack() as stack:
            cgroup.create(self.layout, plan.cgroup_path, plan.controllers, versions=(2,))
            unified = stack.enter_context(self._open_unified(plan.cgroup_path))
            limits, limited = os.pipe()
            stack.callback(os.close, limits)
            with _closing(limited):
                running = self._spawner.begin(
                    plan.encoded,
                    flags=plan.flags,
                    stdio=stdio,
                    cgroup=unified,
                    network=tuple(each.flatten() for each in state.attachments),
                    limits=limits,
                    detached=state.detached,
                    supervision=supervision,
                    pid_namespace=plan.pid_namespace,
                    users=plan.users,
                    listing=plan.listing,
                )
                stack.push(_reaping(running))
                cgroup.create(self.layout, plan.cgroup_path, plan.controllers, versions=(1,))
                cgroup.write(self.layout, plan.cgroup_path, plan.writes)
                if plan.device_program and unified is not None:
                    device_program.attach(plan.device_program, unified, path=plan.cgroup_path)
                os.write(limited, b"g")
            running.await_started()
        return running

    @contextmanager
    def _open_unified(self, path: str) -> Iterator[int | None]:
        """Yield the open v2 directory of a cgroup, for a process to be born in; None when this host has no v2."""
        unified = self.layout.hierarchy("")
        if unified is None:
            yield None
            return
        descriptor = os.open(unified.directory(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _init_config(
        self, state: ContainerState, spec: Spec, hierarchies: tuple[cgroup.Hierarchy, ...]
    ) -> init_plan.InitConfig:
        directories = (h.directory(spec.linux.cgroups_path) for h in hierarchies if h.version == 1)
        return init_plan.InitConfig(
            spec=spec,
            root=init_plan.OverlayRoot(
                lower=state.layers,
                upper=state.upper,
                work=state.work,
                target=state.rootfs,
                volatile=state.volatile,
            ),
            task_files=tuple(map(_task_file, directories)),
            cgroup_mounts=cgroup_mounts(self.layout, tuple(name for each in hierarchies for name in each.controllers)),
            bounding_set=self._bounding(init_plan.has_users(spec.linux)),
            users_descriptor=spawner.USERS_NUMBER,
            rootless=self._rootless,
            seccomp=self._filter(spec.process, defaults.seccomp_profile(spec)),
            bridged=state.bridged,
            go_descriptor=spawner.GO_NUMBER,
            limits_descriptor=spawner.LIMITS_NUMBER,
            detached=state.detached,
            joined={each: self._identity(each) for each in init_plan.joins(spec.linux)},
        )

    def _identity(self, container_id: str) -> init_plan.Identity:
        state = self.directory.load(container_id)
        if state.process is None or state.status != Status.RUNNING:
            raise StateConflict(
                f"cannot join namespaces of a non running container: {container_id}", hint="start that one first"
            )
        return state.process.pid, state.process.started_ticks

    def _bounding(self, has_own_users: bool) -> int:
        """Return what a process can have at most: in a user namespace of its own everything, over that namespace."""
        return _EVERYTHING if has_own_users else self._bounding_set

    def _listing(self, path: str) -> str:
        """Return the file that lists the processes of a cgroup, in any hierarchy; "" when there is none."""
        hierarchies = self.layout.select(("pids", "memory", "cpu", ""))
        return os.path.join(hierarchies[0].directory(path), "cgroup.procs") if hierarchies else ""

    def _confinement(self, container_id: str) -> _Confinement:
        if container_id not in self._confinements:
            self._confinements[container_id] = _Confinement.of(self.directory.load_spec(container_id))
        return self._confinements[container_id]

    def _task_files(self, path: str) -> tuple[str, ...]:
        directories = (hierarchy.directory(path) for hierarchy in self.layout.hierarchies if hierarchy.version == 1)
        return tuple(_task_file(name) for name in directories if os.path.isdir(name))

    def _filter(self, process: Process, profile: str | None) -> bytes:
        if profile == "":
            return b""
        key = (profile or "", frozenset(process.capabilities.bounding))
        if key not in self._filters:
            text = seccomp_profile.default_profile() if profile is None else profile
            self._filters[key] = seccomp_profile.load(text, key[1], cache=self._cache)
        return self._filters[key]

    def _record_start(self, state: ContainerState, running: Running) -> None:
        try:
            process: ProcessIdentity | None = ProcessIdentity.of(running.pid)
        except ProcessLookupError:
            process = None  # it has ended and been reaped already
        self.directory.save(replace(state, status=Status.RUNNING, process=process, exit_code=None))

    def exec(
        self, container_id: str, process: Process, *, stdio: Stdio, detached: bool = False, exec_id: str = ""
    ) -> Running:
        """Run a further program in a running container, under the same limits, and return once it runs.

        One that is ``detached`` outlives this process, and the spawner. With ``exec_id`` the container's events tell
        of its end.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it does not run.
            StartFailed: the program could not be executed.
        """
        state = self.directory.load(container_id)
        confinement, execution = self._confinement(container_id), (state.bundle, exec_id) if exec_id else None
        if self._rootless:
            with _open_process(state):  # or it does not run
                encoded = self._spawner.encode(self._plan_rootless_exec(state, process, confinement, detached=detached))
                running = self._spawner.begin(encoded, flags=0, stdio=stdio, detached=detached, execution=execution)
            running.await_started()
            return running
        if confinement.has_own_users:
            user_namespace.give_streams((stdio.stdin, stdio.stdout, stdio.stderr), *confinement.root)
        with _open_process(state) as pidfd, self._open_unified(state.cgroup) as cgroup_fd:
            plan = init_plan.plan_exec(
                process,
                task_files=self._task_files(state.cgroup),
                pidfd=spawner.PIDFD_NUMBER,
                flags=confinement.joined,
                bounding_set=self._bounding(confinement.has_own_users),
                has_own_users=confinement.has_own_users,
                seccomp=self._filter(process, confinement.profile),
                detached=detached,
            )
            return self._spawner.join(
                plan, stdio=stdio, pidfd=pidfd, cgroup=cgroup_fd, detached=detached, execution=execution
            )

    def encode_exec(self, state: ContainerState, process: Process) -> EncodedPlan:
        """Return how to run a further program, which outlives the spawner, in a container that is about to be started.

        Raises:
            NoSuchContainer: there is none.
        """
        confinement = self._confinement(state.id)
        limits = self.directory.load_spec(state.id).linux.resources
        wanted = (*cgroup.TARGET_CONTROLLERS, *resources.controllers(limits), "")
        hierarchies = (each for each in self.layout.select(wanted) if each.version == 1)
        plan = init_plan.plan_exec(
            process,
            task_files=tuple(_task_file(each.directory(state.cgroup)) for each in hierarchies),
            pidfd=spawner.PIDFD_NUMBER,
            flags=confinement.joined,
            bounding_set=self._bounding(confinement.has_own_users),
            has_own_users=confinement.has_own_users,
            seccomp=self._filter(process, confinement.profile),
            detached=True,
        )
        return self._spawner.encode(plan)

    def _plan_rootless_exec(
        self, state: ContainerState, process: Process, confinement: _Confinement, *, detached: bool
    ) -> tuple[init_plan.InitOp, ...]:
        assert state.process is not None
        return init_plan.plan_rootless_exec(
            process,
            first=(state.process.pid, state.process.started_ticks),
            flags=confinement.joined,
            bounding_set=_EVERYTHING,
            seccomp=self._filter(process, confinement.profile),
            detached=detached,
        )

    def kill(self, container_id: str, signal_number: int) -> None:
        """Send a signal to the container's first process.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it does not run.
        """
        with _open_process(self.directory.load(container_id)) as pidfd:
            signal.pidfd_send_signal(pidfd, signal_number)

    def wait(self, container_id: str, deadline_ns: int | None = None) -> int | None:
        """Return the exit code once the container has stopped; None if it runs at ``deadline_ns`` (CLOCK_MONOTONIC).

        A container that another engine started is only waited for: its exit code may be None for ever.

        Raises:
            NoSuchContainer: there is none.
            SpawnerDied: the spawner ended, and the container with it.
        """
        running = self._running.get(container_id)
        if running is None:
            return self._wait_for_foreign(container_id, deadline_ns)
        code = running.wait(deadline_ns)
        if code is not None:
            self._record_exit(container_id, code)
        return code

    def _wait_for_foreign(self, container_id: str, deadline_ns: int | None) -> int | None:
        with contextlib.suppress(StateConflict), _open_process(self.directory.load(container_id)) as pidfd:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            poll.poll(None if deadline_ns is None else max(0, deadline_ns - time.monotonic_ns()) / 1e6)
        return self.directory.load(container_id).exit_code

    def _record_exit(self, container_id: str, code: int) -> None:
        with self.directory.locked(container_id):
            state = self.directory.load(container_id)
            if state.exit_code is None:
                with _on_full_disk_later():
                    self.directory.save(replace(state, status=Status.STOPPED, exit_code=code))

    def pause(self, container_id: str, *, paused: bool) -> None:
        """Freeze a running container in place, or let it go on.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it does not run.
        """
        state = self.directory.load(container_id)
        if state.status != Status.RUNNING:
            raise StateConflict(f"container '{container_id}' is not running")
        cgroup.freeze(self.layout, state.cgroup, frozen=paused, deadline_ns=_soon())

    def is_paused(self, container_id: str) -> bool:
        """Return whether a container is frozen.

        Raises:
            NoSuchContainer: there is none.
        """
        return cgroup.is_frozen(self.layout, self.directory.load(container_id).cgroup)

    def terminate(self, container_id: str) -> None:
        """Kill every process of a container and return when none is left; one that does not run is no error.

        Raises:
            NoSuchContainer: there is none.
            TimeoutError: the kernel did not end them.
        """
        state = self.directory.load(container_id)
        if self._rootless:
            with contextlib.suppress(StateConflict):
                self.kill(container_id, signal.SIGKILL)  # the kernel ends the rest of its pid namespace
        cgroup.kill(self.layout, state.cgroup, deadline_ns=_soon())
        running = self._running.get(container_id)
        if running is not None:
            with contextlib.suppress(SpawnerDied):
                running.wait(_soon())

    def delete(self, container_id: str, *, force: bool) -> None:
        """Remove a container with its layer and cgroups; ``force`` kills it first if it runs.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it runs, and ``force`` is not set.
        """
        with self.directory.locked(container_id):
            state = self.directory.load(container_id)
            if state.status == Status.RUNNING and not force:
                raise StateConflict(f"container '{container_id}' is running", hint="stop it first, or force")
            self._remove_cgroups(state)
            running = self._running.pop(container_id, None)
            if running is not None:
                running.close()
            self._plans.pop(container_id, None)
            self._confinements.pop(container_id, None)
            self.directory.remove(container_id)

    def _remove_cgroups(self, state: ContainerState) -> None:
        """Remove a container's cgroups after all that runs in them; after an end by itself that is mostly nothing."""
        if state.status == Status.STOPPED:
            with contextlib.suppress(TimeoutError):
                cgroup.remove(self.layout, state.cgroup, deadline_ns=0)
                return
        self.terminate(state.id)
        cgroup.remove(self.layout, state.cgroup, deadline_ns=_soon())

    def processes(self, state: ContainerState) -> tuple[int, ...]:
        """Return the host pids of all processes in a container's cgroup, sorted."""
        return cgroup.processes(self.layout, state.cgroup)


def _task_file(directory: str) -> str:
    """Return the file through which a process joins a v1 cgroup by itself.

    A process that writes 0 to "tasks" moves itself, one thread, without the lock that writing "cgroup.procs" takes:
    that one waits for an RCU grace period, 5 ms and more.
    """
    return os.path.join(directory, "tasks")


def grantable(names: tuple[str, ...], layout: cgroup.CgroupLayout) -> tuple[str, ...]:
    """Return those of the wanted capabilities that a container may get on such a host.

    Without a devices controller (v1) or a device program (v2) nothing would keep a node that it makes for a host's disk
    from being opened, so there it may not make any.
    """
    guarded = layout.hierarchy("devices") or layout.hierarchy("")
    return tuple(name for name in names if name != "CAP_MKNOD" or guarded)


def cgroup_mounts(
    layout: cgroup.CgroupLayout, controllers: tuple[str, ...] = cgroup.TARGET_CONTROLLERS
) -> tuple[Mount, ...]:
    """Return the read-only mounts that show a container its own cgroup: v2 as such, v1 one directory a hierarchy.

    A v1 hierarchy that has none of ``controllers``, which it is in, is left out.
    """
    if layout.kind == cgroup.CgroupKind.UNIFIED:
        return (Mount(destination="/sys/fs/cgroup", type="cgroup2", source="cgroup", options=_CGROUP_OPTIONS),)
    return tuple(
        Mount(
            destination=os.path.join("/sys/fs/cgroup", os.path.basename(hierarchy.mount_point)),
            type="cgroup",
            source="cgroup",
            options=(*_CGROUP_OPTIONS, *hierarchy.controllers),
        )
        for hierarchy in layout.select(controllers)
        if hierarchy.version == 1
    )


@contextmanager
def _closing(descriptor: int) -> Iterator[None]:
    try:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _on_full_disk_later() -> Iterator[None]:
    """Let a state that finds no space stay unwritten: whether a process has ended is seen by looking as well."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _reaping(running: Running) -> Callable[[type[BaseException] | None, BaseException | None, object], None]:
    """Return the exit of a block in which a start may fail for another reason: the child, told so, is waited for."""

    def leave(kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if kind is not None and not isinstance(error, StartFailed | SpawnerDied):
            with contextlib.suppress(StartFailed, SpawnerDied):
                running.await_started()

    return leave


@contextmanager
def _open_process(state: ContainerState) -> Iterator[int]:
    """Yield a pidfd of a running container's first process, sure to be the one that was started."""
    descriptor = -1
    try:
        if state.process is not None and state.status == Status.RUNNING:
            descriptor = os.pidfd_open(state.process.pid)
        if descriptor < 0 or state.process is None or not state.process.is_alive():
            raise ProcessLookupError
        yield descriptor
    except ProcessLookupError:
        raise StateConflict(f"container '{state.id}' is not running") from None
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _soon() -> int:
    return time.monotonic_ns() + _GRACE_NS
