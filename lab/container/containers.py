"""Containers as docker's users know them: with names, records, logs, and a life of their own beside the command.

This stands on the engine: what a container is made of is said by ``options``, what runs it is the shared spawner, and
what this adds is who is meant, what is remembered, and what a stop or a removal is.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import TracebackType

from lab.container import event_actors, events, log_file, network_actors, starting, supervision
from lab.container.engine import Engine
from lab.container.names import Names, new_id
from lab.container.network import departure
from lab.container.options import names as names_options
from lab.container.options.run import RESTART_NEVER, RunOptions
from lab.container.options.signals import signal_number
from lab.container.pipes import open_stdin
from lab.container.record import FILE as RECORD_FILE
from lab.container.record import ContainerRecord
from lab.container.spawner_client import Running, SpawnerDied, StartFailed, Streams
from lab.container.spawner_start import has_shared
from lab.container.spec import codec
from lab.container.spec.runtime import JOINS, Process, Status, User
from lab.container.state import ContainerState
from lab.container.volumes import points
from lab.container.volumes.model import MountPoint
from lab.errors import ContainerError, KernelError, NoSuchContainer, StateConflict, UnavailableError
from lab.linux import capabilities
from lab.linux.cgroup import layout as cgroup_layout
from lab.paths import Paths
from lab.units import NS_PER_S

TYPE_CHECKING = False
if TYPE_CHECKING:  # what only creation needs is imported there: no other verb is to wait for it
    from lab.container.image.store import ImageStore
    from lab.container.image.stored import StoredImage
    from lab.container.options.configure import Surroundings

STOP_TIMEOUT_S = 10
_NOTED_NS = 5 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Created:
    """A container that has been made, its name, and what to tell the user about it."""

    id: str
    name: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container as it is now: what was asked for, the engine's state, and how its last run went.

    ``ended`` is None while it runs or before it has run; ``started_ns`` (time of day) is 0 before its first start.
    """

    name: str
    record: ContainerRecord
    state: ContainerState
    started_ns: int
    ended: supervision.Ended | None
    is_paused: bool

    @property
    def id(self) -> str:
        """The whole id."""
        return self.record.id

    @property
    def is_running(self) -> bool:
        """Whether its first process is there, paused or not."""
        return self.state.status == Status.RUNNING

    @property
    def status(self) -> str:
        """docker's word: created, running, paused, restarting, exited."""
        if self.is_running:
            return "paused" if self.is_paused else "running"
        if self.ended is not None and self.ended.next_restart:
            return "restarting"
        return "created" if not self.started_ns else "exited"

    @property
    def exit_code(self) -> int:
        """The exit code of its last run; 0 before there was one, 255 when nobody saw its end."""
        if self.ended is not None:
            return self.ended.code
        return supervision.LOST_CODE if self.status == "exited" else 0


class Containers:
    """All containers of one root; to be closed, or used in a ``with`` block."""

    def __init__(self, paths: Paths) -> None:
        """Open them; nothing is made or started before it is needed."""
        self.paths = paths
        self.engine = Engine(paths, shared=True)
        self.names = Names(paths.containers)

    @cached_property
    def images(self) -> ImageStore:
        """The images that containers are made of."""
        from lab.container.image.store import ImageStore

        return ImageStore.open(self.paths)

    def __enter__(self) -> Containers:
        """Return the containers themselves."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close them."""
        self.engine.close()

    # -- who is meant --------------------------------------------------------------------------------------------------

    def find(self, reference: str) -> str:
        """Return the id that is meant by an id, the unique beginning of one, or a name.

        Raises:
            NoSuchContainer: none is, or more than one.
        """
        return self.names.resolve(reference, self.engine.directory.ids())

    def get(self, reference: str) -> Container:
        """Return a container as it is now.

        Raises:
            NoSuchContainer: there is none.
        """
        container_id = self.find(reference)
        return self._load(container_id, self.names.of(container_id))

    def all(self) -> tuple[Container, ...]:
        """Return all containers, the newest first; what vanishes meanwhile is left out."""
        names, found = self.names.all(), []
        for container_id in self.engine.directory.ids():
            with contextlib.suppress(NoSuchContainer):
                found.append(self._load(container_id, names.get(container_id, "")))
        return tuple(sorted(found, key=lambda container: -container.record.created_ns))

    def _load(self, container_id: str, name: str) -> Container:
        state = self.engine.state(container_id)
        if state.status == Status.STOPPED and not supervision.is_noted(state.bundle) and has_shared(self.paths):
            with contextlib.suppress(StartFailed):  # it is noted by now, or nobody has seen it
                self._await_end(container_id, time.monotonic_ns() + _NOTED_NS)
            state = self.engine.state(container_id)
        left = supervision.read_pid_file(state.bundle)
        return Container(
            name=name or container_id,
            record=ContainerRecord.load(state.bundle),
            state=state,
            started_ns=0 if left is None else left.started_ns,
            ended=None if state.status == Status.RUNNING else supervision.read_exit_file(state.bundle),
            is_paused=state.status == Status.RUNNING and self.engine.is_paused(container_id),
        )

    # -- its life ------------------------------------------------------------------------------------------------------

    def create(self, options: RunOptions, *, name: str = "", environ: Mapping[str, str] | None = None) -> Created:
        """Make a container; nothing runs. ``environ`` is the caller's environment, for variables without value.

        Raises:
            SpecError: an option is wrong.
            ImageNotFound: there is no such image.
            StateConflict: the name is taken.
            UnavailableError: this host cannot enforce one of its limits.
        """
        from lab.container.options.sharing import with_ids

        if options.healthcheck is not None:
            from lab.container.options.health import refuse_too_short

            refuse_too_short(options.healthcheck)
        with self.images.content_shared():  # until the container says on disk which layers it stands on
            image = self._image(options)
            options = with_ids(options, self.find)
            if any(each.links for each in options.endpoints):
                from lab.container import linking  # few have any

                linking.check(options.endpoints, self.find)
            if not (options.volumes or options.mounts or options.volumes_from or image.config.config.volumes):
                return self._create(options, image, (), name=name, environ=environ)
            from lab.container.volumes import making  # others need not wait for it

            layers = self.images.layer_directories(image.manifest_digest)
            with making.made(self.paths, options, image.config.config, layers, self.find) as found:
                return self._create(options, image, found, name=name, environ=environ)

    def _image(self, options: RunOptions) -> StoredImage:
        if not options.platform:
            return self.images.resolve(options.image)
        from lab.container.image.platforms import host_platform  # few ask for it

        return self.images.resolve(options.image, host_platform(options.platform))

    def _create(
        self,
        options: RunOptions,
        image: StoredImage,
        found: tuple[MountPoint, ...],
        *,
        name: str,
        environ: Mapping[str, str] | None,
    ) -> Created:
        from lab.container import etc_files
        from lab.container.options import sharing
        from lab.container.options.configure import configure

        container_id = new_id()
        layers = self.images.layer_directories(image.manifest_digest)
        configured = configure(container_id, options, image.config.config, layers, self._surroundings(options, environ))
        config = replace(configured.config, mounts=(*configured.config.mounts, *points.mounts(found)))
        if options.trusts_host_ca:
            from lab.container import host_trust  # few ask for it

            config = host_trust.trusting(config, os.path.join(self.paths.cache, "host-trust"))
        bundle = self.engine.directory.bundle(container_id)
        joined = config.network_namespace.removeprefix(JOINS) if config.network_namespace.startswith(JOINS) else ""
        shown = self.engine.directory.bundle(joined) if joined else bundle  # one network, one set of names
        record = ContainerRecord(
            id=container_id,
            created_ns=time.time_ns(),
            image_id=image.config_digest,
            args=config.args,
            options=options,
            image=image.config.config,
        )
        config = replace(
            config, mounts=(*config.mounts, *etc_files.mounts(shown, (m.destination for m in config.mounts)))
        )
        name = self._claim(name, container_id)
        files = {
            RECORD_FILE: json.dumps(codec.encode(record)),
            events.ACTOR_FILE: self._actor(record, name, os.path.join(config.cgroup_parent, container_id)),
            **names_options.etc_content(options, container_id, read=starting.read_if_there),
            **_log_files(options),
            **network_actors.at_first(self.paths, container_id, options.network),
            **({points.FILE: points.text(found)} if found else {}),
        }
        try:
            self.engine.create(config, files, sharing.endpoints(options))
            events.note(bundle, "create")
        except BaseException:
            self.names.release(container_id)
            raise
        return Created(id=container_id, name=name, warnings=configured.warnings)

    def _surroundings(self, options: RunOptions, environ: Mapping[str, str] | None) -> Surroundings:
        from lab.container import host_limits
        from lab.container.options.configure import Surroundings

        program = ""
        if options.init:
            from lab.container import init_program  # few ask for it

            program = init_program.ensure(self.paths.cache)
        return Surroundings(
            bounding_set=capabilities.bounding_set(),
            read=_read_named,
            environ=environ or {},
            init_program=program,
            limits=host_limits.find(options, self.engine.runtime.layout),
            rootless=os.geteuid() != 0,
        )

    def _actor(self, record: ContainerRecord, name: str, cgroup: str) -> str:
        attributes = {**record.image.labels, **record.options.labels, "image": record.options.image, "name": name}
        return event_actors.actor(
            self.paths.run, attributes, oom_counter=cgroup_layout.oom_counter(self.engine.runtime.layout, cgroup)
        )

    def _claim(self, name: str, container_id: str) -> str:
        if not name:
            return self.names.claim_any(container_id)
        self.names.claim(name.removeprefix("/"), container_id)
        return name.removeprefix("/")

    def start(self, container_id: str, streams: Streams | None = None) -> Running:
        """Start a container, with these streams connected from the first byte on; return once its program runs.

        ``wait`` of what is returned gives its exit code. A terminal is handed over to the spawner.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it runs already.
            StartFailed: it could not be started.
        """
        try:
            return starting.begin(self.engine, container_id, streams or Streams(), restarts_done=0)
        except (StateConflict, KernelError, UnavailableError):  # what fails later is the spawner's to remove
            with contextlib.suppress(ContainerError):
                if self.get(container_id).record.options.removes:
                    self.remove(container_id)
            raise

    def start_again(self, container_id: str) -> None:
        """Start a container that waits for it by its restart policy; any other is left as it is.

        Raises:
            NoSuchContainer: there is none.
            StartFailed: it could not be started.
        """
        container = self.get(container_id)
        if container.status == "restarting" and container.ended is not None:
            with contextlib.suppress(StateConflict):  # a stop or a start came first
                starting.begin(self.engine, container_id, Streams(), restarts_done=container.ended.next_restart).close()

    def cancel_restart(self, container_id: str) -> None:
        """Let a container that waits for its restart be one that has ended; any other is left as it is.

        Raises:
            NoSuchContainer: there is none.
        """
        with self.engine.directory.locked(container_id):
            supervision.cancel_restart(self.engine.directory.bundle(container_id))

    def set_restart(self, container_id: str, restart: str, restarts_most: int) -> None:
        """Give a container another restart policy, from now on.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it is removed when it ends.
        """
        container = self.get(container_id)
        if container.record.options.removes:
            raise StateConflict("Restart policy cannot be updated because AutoRemove is enabled for the container")
        with self.engine.directory.locked(container.id):
            record = ContainerRecord.load(container.state.bundle)
            options = replace(record.options, restart=restart, restarts_most=restarts_most)
            replace(record, options=options).save(container.state.bundle)
            if self.engine.state(container.id).status == Status.RUNNING:
                self.engine.spawner.set_restart(container.id, restart=restart, restarts_most=restarts_most)
            elif restart == RESTART_NEVER:
                supervision.cancel_restart(container.state.bundle)
        events.note(container.state.bundle, "update")

    def open_stdin(self, container_id: str) -> int:
        """Return a descriptor of a container's standard input, to write to; its closing is the end of that input.

        Raises:
            NoSuchContainer: there is none.
        """
        return open_stdin(self.engine.state(container_id).bundle)

    def stop(self, container_id: str, *, timeout_s: int | None = None, signal_number: int | None = None) -> None:
        """Ask a container to end, by its stop signal, and kill it if it has not after ``timeout_s`` (negative: wait).

        One that does not run is no error; no restart policy starts it again.

        Raises:
            NoSuchContainer: there is none.
        """
        container = self.get(container_id)
        _write_text(os.path.join(container.state.bundle, supervision.STOPPING_FILE), "")
        if not container.is_running:
            self.cancel_restart(container.id)
            container = self.get(container.id)  # which may have been on its way
        if container.is_running:
            self._stop(container, timeout_s, signal_number)
            departure.settle_if_ended(container.state.bundle)
            events.note(container.state.bundle, "stop")

    def _stop(self, container: Container, timeout_s: int | None, signal_number: int | None) -> None:
        given = (timeout_s, container.record.options.stop_timeout_s, STOP_TIMEOUT_S)
        wait_s = next(value for value in given if value is not None)
        with contextlib.suppress(StateConflict):
            if container.is_paused:
                self.engine.resume(container.id)
            number = signal_number or stop_signal(container.record)
            _note_signal(container, number)
            self.engine.kill(container.id, number)
            if wait_s < 0 or self.wait(container.id, time.monotonic_ns() + wait_s * NS_PER_S) is not None:
                self.wait(container.id)
                return
        _note_signal(container, signal.SIGKILL)
        self.engine.terminate(container.id)
        self.wait(container.id)

    def kill(self, container_id: str, signal_number: int) -> None:
        """Send a signal to a container's first process.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it does not run.
        """
        container = self.get(container_id)
        if container.status == "restarting":
            self.cancel_restart(container.id)
            container = self.get(container.id)
            if not container.is_running:
                return
        if not container.is_running:
            raise StateConflict(f"Cannot kill container: {container_id}: container {container.id} is not running")
        if signal_number in (signal.SIGKILL, stop_signal(container.record)):
            _write_text(os.path.join(container.state.bundle, supervision.STOPPING_FILE), "")
        _note_signal(container, signal_number)
        self.engine.kill(container.id, signal_number)
        if signal_number == signal.SIGKILL and container.is_paused:
            self.engine.resume(container.id)

    def pause(self, container_id: str) -> None:
        """Freeze all processes of a running container.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it does not run, or is frozen already.
        """
        container = self.get(container_id)
        if not container.is_running:
            raise StateConflict(f"Container {container.id} is not running")
        if container.is_paused:
            raise StateConflict(f"Container {container.id} is already paused")
        self.engine.pause(container.id)
        events.note(container.state.bundle, "pause")

    def unpause(self, container_id: str) -> None:
        """Let a frozen container go on.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it is not frozen.
        """
        container = self.get(container_id)
        if not container.is_paused:
            raise StateConflict(f"Container {container.id} is not paused")
        self.engine.resume(container.id)
        events.note(container.state.bundle, "unpause")

    def wait(self, container_id: str, deadline_ns: int | None = None) -> int | None:
        """Return the exit code when a container has ended, or None at ``deadline_ns`` (CLOCK_MONOTONIC).

        Raises:
            NoSuchContainer: there is none.
        """
        container = self.get(container_id)
        if container.ended is not None or not container.started_ns:
            return container.exit_code
        try:
            return self._await_end(container.id, deadline_ns)
        except StartFailed:
            return self.get(container.id).exit_code

    def _await_end(self, container_id: str, deadline_ns: int | None) -> int | None:
        """Return the exit code once the end is noted, also of one whose process has ended already."""
        while True:
            running = self.engine.spawner.attach(container_id, Streams())
            with contextlib.closing(running), contextlib.suppress(SpawnerDied):  # another one goes on with it
                return running.wait(deadline_ns)

    def remove(self, container_id: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container with its layer and its log; ``force`` kills it first.

        With ``volumes``, and always if it was to be removed when it ends, its anonymous volumes go as well.

        Raises:
            NoSuchContainer: there is none.
            StateConflict: it runs, and ``force`` is not set.
        """
        container = self.get(container_id)
        try:
            self._remove(container, force=force, volumes=volumes)
        except FileNotFoundError:
            if os.path.isdir(container.state.bundle):
                raise
            self.get(container_id)  # another command has removed it meanwhile: that there is none is what it says

    def _remove(self, container: Container, *, force: bool, volumes: bool) -> None:
        if container.status in ("running", "paused", "restarting"):
            if not force:
                raise StateConflict(
                    f'cannot remove container "/{container.name}": container is {container.status}: stop the container'
                    " before removing or force remove"
                )
            _write_text(os.path.join(container.state.bundle, supervision.STOPPING_FILE), "")
        if container.is_running:
            _note_signal(container, signal.SIGKILL)
            self.engine.terminate(container.id)
            self.wait(container.id, time.monotonic_ns() + _NOTED_NS)  # so that its end is told before its removal
        actor = events.Actor(container.state.bundle)
        actor.read()
        departure.settle(container.state.bundle)
        found = points.read(container.state.bundle)
        self.engine.delete(container.id, force=force)
        self.names.release(container.id)
        if found:
            from lab.container.volumes import making

            making.leave(self.paths, found, removes=volumes or container.record.options.removes)
        actor.note("destroy")
        self.images.container_is_gone()

    def rename(self, container_id: str, new: str) -> None:
        """Give a container another name.

        Raises:
            NoSuchContainer: there is none.
            SpecError: it cannot be a name.
            StateConflict: another container has it.
        """
        container, name = self.get(container_id), new.removeprefix("/")
        if name == container.name:
            raise StateConflict("Renaming a container with the same name as its current name")
        path = os.path.join(container.state.bundle, events.ACTOR_FILE)
        try:
            _write_text(path + ".new", self._actor(container.record, name, container.state.cgroup))
            self.names.rename(container.id, name)  # the last that a full disk can refuse
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + ".new")
            raise
        os.replace(path + ".new", path)
        events.note(container.state.bundle, "rename", event_actors.members({"oldName": f"/{container.name}"}))

    def process(
        self,
        container: Container,
        args: tuple[str, ...],
        *,
        env: tuple[str, ...] = (),
        cwd: str = "",
        user: str = "",
        privileged: bool = False,
        terminal: bool = False,
    ) -> Process:
        """Return a further program for ``engine.exec``: as the main one, but for what is said.

        One that is ``privileged`` gets all that the host can give.
        """
        main = self.engine.directory.load_spec(container.id).process
        found = self.engine.process(container.id, args, env=env, cwd=cwd or main.cwd)
        if user:
            found = replace(found, user=User(username=user))
        if privileged:
            from lab.container.defaults import capability_sets

            found = replace(found, capabilities=capability_sets(capabilities.names(capabilities.bounding_set())))
        if terminal and not any(line.startswith("TERM=") for line in found.env):
            found = replace(found, env=(*found.env, "TERM=xterm"))
        return replace(found, terminal=terminal)


def _note_signal(container: Container, signal_number: int) -> None:
    events.note(container.state.bundle, "kill", f'"signal": "{int(signal_number)}"')


def _log_files(options: RunOptions) -> dict[str, str]:
    from lab.container.options import logs as log_options

    limits = log_options.limits(options.log_driver, options.log_options)
    return {} if limits is None else {log_file.LIMITS_FILE: " ".join(str(int(each)) for each in limits)}


def stop_signal(record: ContainerRecord) -> int:
    """Return the number of the signal that asks a container to end.

    Raises:
        SpecError: it has none of that name.
    """
    return signal_number(record.options.stop_signal or record.image.stop_signal or "SIGTERM")


def _read_named(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
