"""The arm "container": our own engine."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import lab
from lab.container import resources
from lab.container.defaults import ContainerConfig, ContainerNetwork
from lab.container.engine import Engine
from lab.container.output import Drain
from lab.container.spawner_client import Running, SpawnerDied, StartFailed, Stdio
from lab.container.spec.runtime import Mount
from lab.errors import ContainerError, LabError, NoSuchContainer, StateConflict, TargetError
from lab.paths import Paths
from lab.target.backends.cgroup_footprint import cgroup_directories
from lab.target.backends.failures import cannot, no_endpoint
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
    NetworkMode,
    TargetSpec,
)
from lab.units import NS_PER_S

_NAME = "container"
_TERM_GRACE_NS = 3 * NS_PER_S


def open_backend(name: str, paths: Paths) -> Backend:
    """Return the backend of our engine, with a spawner of its own."""
    del name  # there is one only
    return EngineBackend(paths)


class EngineBackend:
    """Our engine as a way of isolating."""

    def __init__(self, paths: Paths) -> None:
        """Open the engine of a root; nothing is started before it is needed."""
        self._engine = Engine(paths)
        self._drain = Drain()

    @property
    def name(self) -> str:
        """What users type and reports print."""
        return _NAME

    def check(self) -> Availability:
        """Return whether this host can, by going the whole way of a start but its very last step."""
        if os.geteuid() != 0:
            return Availability(available=False, reason="our engine needs root", hint="use sudo")
        try:
            reached = _try_start(self._engine)
        except (LabError, OSError) as error:
            return cannot(error)
        if reached.step != "execute":
            return Availability(available=False, reason=str(reached), hint="see `lab doctor`")
        return Availability(available=True, facts=self._facts())

    def _facts(self) -> tuple[tuple[str, str], ...]:
        layout = self._engine.runtime.layout
        return (
            ("isolation", "namespaces"),
            ("accelerator", "none"),
            ("version", f"lab {lab.__version__}"),
            ("cgroup_layout", str(layout.kind)),
            ("seccomp", "docker's default"),
        )

    def provision(self, spec: TargetSpec, marks: MarkSink) -> EngineTarget:
        """Create a container; nothing runs.

        Raises:
            ImageNotFound: the store has no such manifest.
            TargetError: it could not be laid out; nothing is left.
        """
        try:
            self._engine.create(_config(spec))
        except OSError as error:
            raise TargetError(str(error), backend=_NAME, phase="provision") from error
        return EngineTarget(self._engine, self._drain, spec, marks)

    def close(self) -> None:
        """Let the spawner go, and the bridge if no other container uses it; safe to call twice."""
        self._engine.close()
        self._engine.release_network()


def _try_start(engine: Engine) -> StartFailed:
    name = f"lab-check-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="lab-check-") as empty_layer, _null() as null:
        engine.create(
            ContainerConfig(
                id=name,
                args=("/there-is-no-such-program",),
                layers=(empty_layer,),
                resources=resources.limits(vcpus=1, memory_bytes=64 * 1024 * 1024, pids=16),
            )
        )
        try:
            running = engine.start(name, stdio=Stdio(stdin=null, stdout=null, stderr=null))
        except StartFailed as failure:
            return failure
        finally:
            engine.delete(name, force=True)
    raise ContainerError(f"a program that is not there was executed as process {running.pid}")


@contextmanager
def _null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _config(spec: TargetSpec) -> ContainerConfig:
    limits = spec.limits
    return ContainerConfig(
        id=spec.name,
        args=spec.command.argv,
        image=spec.image,
        env=_environment(spec.command),
        cwd=spec.command.cwd,
        hostname=spec.name,
        mounts=tuple(
            Mount(
                destination=volume.path,
                type="bind",
                source=volume.source,
                options=("rbind", "ro" if volume.read_only else "rw"),
            )
            for volume in spec.volumes
        ),
        anonymous_volumes=("/data",) if spec.scratch_bytes else (),
        resources=resources.limits(vcpus=limits.vcpus, memory_bytes=limits.memory_bytes, pids=limits.pids),
        network=ContainerNetwork.BRIDGE if spec.network == NetworkMode.BRIDGE else ContainerNetwork.NONE,
        cgroup_parent=spec.cgroup_parent,
    )


def _environment(command: Command) -> tuple[str, ...]:
    return tuple(f"{name}={value}" for name, value in command.env)


class EngineTarget:
    """One container."""

    def __init__(self, engine: Engine, drain: Drain, spec: TargetSpec, marks: MarkSink) -> None:
        """Take over a container that has been created."""
        self._engine = engine
        self._spec = spec
        self._marks = marks
        self._program = SpawnedProgram(_NAME, spec, marks, drain)
        self._running: Running | None = None

    @property
    def spec(self) -> TargetSpec:
        """What was asked for."""
        return self._spec

    def start(self) -> None:
        """Start the container; what it raises is said in the protocol."""
        try:
            self._program.start(self._launch)
        except BaseException:
            self._running = None
            self._terminate("start")
            raise

    def _launch(self, stdio: Stdio) -> Running:
        self._running = self._engine.start(self._spec.name, stdio=stdio)
        return self._running

    def exec(self, command: Command) -> Execution:
        """Run a program in the container; what it raises is said in the protocol."""
        name = self._spec.name

        def launch(stdio: Stdio) -> Running:
            process = self._engine.process(name, command.argv, env=_environment(command), cwd=command.cwd)
            return self._engine.exec(name, process, stdio=stdio)

        return self._program.exec(command, launch)

    def footprint(self) -> Footprint:
        """Return the container's cgroups and processes; the spawner serves all containers."""
        try:
            state = self._engine.state(self._spec.name)
        except NoSuchContainer:
            return Footprint(cgroups=(), pids=())
        spawner = self._engine.spawner_pid
        return Footprint(
            cgroups=cgroup_directories(self._engine.runtime.layout, state.cgroup),
            pids=self._engine.runtime.processes(state),
            shared_daemons=() if spawner is None else (("spawner", spawner),),
            links=() if state.attachment is None else (state.attachment.host_link,),
        )

    def endpoint(self) -> Endpoint:
        """Return where the container's service answers.

        Raises:
            TargetError: it has no network or no service.
        """
        attachment = self._engine.state(self._spec.name).attachment
        if attachment is None or self._spec.service_port is None:
            raise no_endpoint(_NAME)
        return Endpoint(host=attachment.address, port=self._spec.service_port)

    def provenance(self) -> Mapping[str, str]:
        """Return the container's whole OCI configuration, and the plan of its start, a step a line."""
        state, directory = self._engine.state(self._spec.name), self._engine.directory
        plan = self._engine.runtime.plan_start(state, directory.load_spec(state.id))
        steps = (*(f"write {write.file} = {write.value}" for write in plan.writes), *map(str, plan.ops))
        with open(os.path.join(state.bundle, "config.json"), encoding="utf-8") as file:
            return {"oci_config": json.dumps(json.load(file), indent=2), "start_plan": "\n".join(steps)}

    def pause(self) -> None:
        """Freeze every process of the container."""
        self._engine.pause(self._spec.name)

    def resume(self) -> None:
        """Let them go on."""
        self._engine.resume(self._spec.name)

    def stop(self) -> None:
        """Stop the container, SIGTERM first, then by force."""
        running, self._running = self._running, None
        if running is None:
            return
        with contextlib.suppress(StateConflict):  # it has ended by itself
            self._engine.kill(self._spec.name, signal.SIGTERM)
        # a dead spawner took with it what it had started; a full disk keeps an end from being recorded, not from coming
        with contextlib.suppress(SpawnerDied, OSError):
            self._engine.wait(self._spec.name, time.monotonic_ns() + _TERM_GRACE_NS)
        self._terminate("stop")
        self._marks(MarkName.GONE, running.exited_at_ns)

    def destroy(self) -> None:
        """Remove the container and all that belongs to it."""
        self.stop()
        try:
            self._engine.delete(self._spec.name, force=True)
        except NoSuchContainer:
            return
        except (OSError, ContainerError) as error:
            raise self._program.failure(str(error), "destroy") from error

    def _terminate(self, phase: str) -> None:
        try:
            self._engine.terminate(self._spec.name)
        except (OSError, NoSuchContainer) as error:
            raise self._program.failure(str(error), phase) from error
