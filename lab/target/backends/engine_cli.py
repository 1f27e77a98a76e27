"""What the arms "docker" and "podman" share: container engines with the same command line, seen through it.

An arm adds how its engine is reached, how it connects a container, and which processes are its helpers.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from lab.container.image.store import ImageStore
from lab.container.output import Drain
from lab.errors import KernelError, TargetError
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.linux.command import Completed
from lab.paths import Paths
from lab.target.backends import execution_mark
from lab.target.backends.attached import Attached
from lab.target.backends.cgroup_footprint import cgroup_directories
from lab.target.backends.claim import Claim, claim, claims
from lab.target.backends.failures import no_endpoint, took_too_long
from lab.target.backends.main_output import MainOutput
from lab.target.backends.runtime_words import exit_code_of
from lab.target.spec import (
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

_KILL_GRACE_NS = 30 * NS_PER_S
_ENGINE_CODES = (125, 126, 127)  # the engine's own failures; a payload may have them too, so its words decide
_RUNTIME_WORDS = ("oci runtime exec failed", "error: runc: exec failed")  # docker's and podman's: what the runtime said


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCli:
    """How to call one engine: the beginning of each command line, its environment, and options of each `create`."""

    name: str
    prefix: tuple[str, ...]
    env: Mapping[str, str] | None = None
    create_options: tuple[str, ...] = ()

    def argv(self, *verb: str) -> tuple[str, ...]:
        """Return the whole command line of a verb."""
        return (*self.prefix, *verb)

    def run(self, *verb: str, timeout_s: float | None = 120, stdin: bytes = b"") -> Completed:
        """Run a verb to its end, whatever its exit code."""
        return command.run(self.argv(*verb), stdin=stdin, timeout_s=timeout_s, env=self.env)

    def require(self, phase: str, *verb: str) -> str:
        """Run a verb and return what it prints.

        Raises:
            TargetError: it failed.
        """
        done = self.run(*verb)
        if done.exit_code != 0:
            raise TargetError(f"{verb[0]}: {done.error_text}", backend=self.name, phase=phase)
        return done.text

    def inspect(self, name: str) -> Mapping[str, Any]:  # Any: JSON
        """Return what the engine knows of a container; empty when there is none."""
        done = self.run("container", "inspect", name)
        found: Mapping[str, Any] = json.loads(done.stdout)[0] if done.exit_code == 0 else {}
        return found


class Connection(Protocol):
    """How an engine's container gets its network."""

    def options(self, spec: TargetSpec) -> tuple[str, ...]:
        """Return the options of `create`."""
        ...

    def connect(self, spec: TargetSpec) -> None:
        """Prepare what `start` will use."""
        ...

    def address(self, spec: TargetSpec, inspected: Mapping[str, Any]) -> str:  # Any: JSON
        """Return the container's address, "" when it has none."""
        ...

    def disconnect(self, spec: TargetSpec) -> None:
        """Take back what ``connect`` has made; safe to repeat."""
        ...


def load_image(cli: EngineCli, paths: Paths, manifest_digest: str) -> str:
    """Make the engine have an image of the store, and return its id there: the digest of the image's configuration.

    Raises:
        ImageNotFound: the store has no such manifest.
        TargetError: the engine does not take it, or gives it another id: it would not be the same image.
    """
    store = ImageStore.open(paths)
    image_id = store.resolve(manifest_digest).config_digest
    if cli.run("image", "inspect", image_id).exit_code == 0:
        return image_id
    os.makedirs(paths.run, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="load-", dir=paths.run) as directory:
        archive = os.path.join(directory, "image.tar")
        store.export_docker_archive(manifest_digest, f"localhost/lab:{manifest_digest[7:19]}", archive)
        cli.require("provision", "load", "--quiet", "--input", archive)
    cli.require("provision", "image", "inspect", image_id)
    return image_id


def create_arguments(spec: TargetSpec, image_id: str, network: tuple[str, ...], scratch: str) -> tuple[str, ...]:
    """Return the arguments of `create` for a target; pure. ``scratch`` is the host directory for /data, or ""."""
    limits = spec.limits
    memory = str(limits.memory_bytes)
    volumes = [(v.source, v.path, ":ro" if v.read_only else "") for v in spec.volumes]
    volumes += [(scratch, "/data", "")] if scratch else []
    return (
        "create",
        *("--name", spec.name, "--hostname", spec.name, "--pull", "never", "--entrypoint", spec.command.argv[0]),
        *("--memory", memory, "--cpus", str(limits.vcpus), "--cgroup-parent", f"/{spec.cgroup_parent}"),
        *(("--pids-limit", str(limits.pids)) if limits.pids is not None else ()),
        *network,
        *(word for name, value in spec.command.env for word in ("--env", f"{name}={value}")),
        *("--workdir", spec.command.cwd),
        *(word for source, path, mode in volumes for word in ("--volume", f"{source}:{path}{mode}")),
        image_id,
        *spec.command.argv[1:],
    )


def read_execution(done: Completed, *, engine: str, is_running: Callable[[], bool]) -> Execution:
    """Return what a finished `exec` says of the payload; ``is_running`` is asked when it may be about the container.

    Raises:
        TargetError: the engine or its runtime failed, not the payload.
    """
    said = done.stdout + done.stderr  # docker says on standard output what its runtime said
    complaint = said.decode(errors="replace").strip()
    failed = done.exit_code in _ENGINE_CODES and complaint.lower().startswith(_RUNTIME_WORDS)
    code = exit_code_of(complaint) if failed else None
    if code is not None:
        return Execution(exit_code=code, stdout=b"", stderr=said)
    if failed or (done.exit_code and complaint.lower().startswith("error") and not is_running()):
        raise TargetError(complaint, backend=engine, phase="exec")
    return Execution(exit_code=done.exit_code, stdout=done.stdout, stderr=done.stderr)


class CliTarget:
    """One container of an engine."""

    def __init__(
        self, cli: EngineCli, paths: Paths, connection: Connection, drain: Drain, spec: TargetSpec, marks: MarkSink
    ) -> None:
        """Take note; ``create`` makes the container."""
        self._cli = cli
        self._connection = connection
        self._output = MainOutput(cli.name, spec, marks, drain)
        self._spec = spec
        self._marks = marks
        self._layout = cgroups.detect()
        self._directory = os.path.join(paths.containers, spec.name)
        self._main: Attached | None = None
        self._claim: Claim | None = None
        self._paths = paths

    @property
    def spec(self) -> TargetSpec:
        """What was asked for."""
        return self._spec

    def create(self) -> None:
        """Create the container; nothing runs.

        Raises:
            ImageNotFound: the store has no such manifest.
            TargetError: the engine refused.
        """
        image_id = load_image(self._cli, self._paths, self._spec.image)
        self._claim = claim(claims(self._paths, self._cli.name), self._spec)
        scratch = os.path.join(self._directory, "data") if self._spec.scratch_bytes else ""
        if scratch:
            os.makedirs(scratch)
        options = (*self._cli.create_options, *self._connection.options(self._spec))
        self._cli.require("provision", *create_arguments(self._spec, image_id, options, scratch))

    def start(self) -> None:
        """Start the container; what it raises is said in the protocol."""
        deadline_ns = time.monotonic_ns() + self._spec.start_timeout_ns
        try:
            self._connection.connect(self._spec)
            argv = self._cli.argv("start", "--attach", self._spec.name)
            self._main = Attached(argv, self._output, env=self._cli.env)
            self._marks(MarkName.SPAWNED, None)
            self._main.await_ready(deadline_ns)
        except TargetError:
            self._undo_start()
            raise
        except (OSError, KernelError) as error:
            self._undo_start()
            raise TargetError(str(error), backend=self._cli.name, phase="start") from error

    def exec(self, command: Command) -> Execution:
        """Run a program in the container; what it raises is said in the protocol."""
        mark = execution_mark.new_mark()
        lines = (mark, *(f"{name}={value}" for name, value in command.env))
        environment = tuple(word for line in lines for word in ("--env", line))
        verb = ("exec", "--interactive", *environment, "--workdir", command.cwd, self._spec.name, *command.argv)
        try:
            done = self._cli.run(*verb, stdin=command.stdin, timeout_s=command.timeout_ns / NS_PER_S)
        except TimeoutError:
            execution_mark.kill_marked(mark, self._processes)
            raise took_too_long(command, backend=self._cli.name) from None
        return read_execution(done, engine=self._cli.name, is_running=self._is_running)

    def _is_running(self) -> bool:
        return bool(self._cli.inspect(self._spec.name).get("State", {}).get("Running"))

    def footprint(self) -> Footprint:
        """Return the container's cgroups and processes; its shim or conmon, and the attached client, are helpers."""
        state = self._cli.inspect(self._spec.name).get("State", {})
        pid = int(state.get("Pid") or 0)
        client = (self._main.pid,) if self._main is not None and self._main.is_alive() else ()
        return Footprint(
            cgroups=cgroup_directories(self._layout, *self._cgroups()),
            pids=self._processes(),
            helper_pids=(*_parent(pid), *client),
            shared_daemons=self.shared_daemons(),
        )

    def shared_daemons(self) -> tuple[tuple[str, int], ...]:
        """Return the processes that serve every container of the engine."""
        return ()

    def endpoint(self) -> Endpoint:
        """Return where the container's service answers.

        Raises:
            TargetError: it has no network, no service, or has not been started.
        """
        bridged = self._spec.network == NetworkMode.BRIDGE and self._spec.service_port is not None
        address = self._await_address() if bridged else ""
        if not address or self._spec.service_port is None:
            raise no_endpoint(self._cli.name)
        return Endpoint(host=address, port=self._spec.service_port)

    def _await_address(self) -> str:
        """Return the address as soon as there is one: `start` of a service returns before the engine has given it."""
        deadline_ns = time.monotonic_ns() + self._spec.start_timeout_ns
        while self._main is not None and self._main.is_alive() and time.monotonic_ns() < deadline_ns:
            address = self._connection.address(self._spec, self._cli.inspect(self._spec.name))
            if address:
                return address
        return ""

    def provenance(self) -> Mapping[str, str]:
        """Return all that the engine knows of the container."""
        return {"inspect": json.dumps(self._cli.inspect(self._spec.name), indent=2)}

    def pause(self) -> None:
        """Freeze every process of the container."""
        self._cli.require("pause", "pause", self._spec.name)

    def resume(self) -> None:
        """Let them go on."""
        self._cli.require("resume", "unpause", self._spec.name)

    def stop(self) -> None:
        """Stop the container, SIGTERM first, then by force; what it raises is said in the protocol."""
        if self._main is None:
            return
        self._cli.run("stop", "--time", "3", self._spec.name)
        self._end_main()
        self._marks(MarkName.GONE, None)
        self._connection.disconnect(self._spec)

    def destroy(self) -> None:
        """Remove the container and all that belongs to it."""
        self.stop()
        self._cli.run("rm", "--force", "--volumes", self._spec.name)
        self._connection.disconnect(self._spec)
        self._remove_shared_cgroup()
        if os.path.isdir(self._directory):
            shutil.rmtree(self._directory)
        if self._claim is not None:
            self._claim.release()

    def reclaim(self) -> None:
        """Remove the container though another process, now dead, has created it and perhaps started it."""
        self._end_main()
        self.destroy()

    def _remove_shared_cgroup(self) -> None:
        """Remove the cgroup that podman's conmons share below the parent, when the last one has gone."""
        cgroup = f"{self._spec.cgroup_parent}/conmon"
        if not cgroups.processes(self._layout, cgroup):
            cgroups.remove(self._layout, cgroup, deadline_ns=time.monotonic_ns() + _KILL_GRACE_NS)

    def _undo_start(self) -> None:
        self._cli.run("kill", self._spec.name)
        self._end_main()
        self._connection.disconnect(self._spec)

    def _end_main(self) -> None:
        deadline_ns = time.monotonic_ns() + _KILL_GRACE_NS
        for cgroup in self._cgroups():
            cgroups.kill(self._layout, cgroup, deadline_ns=deadline_ns)
        if self._main is not None and self._main.wait(deadline_ns) is None:
            self._main.kill()
        self._main = None

    def _cgroups(self) -> tuple[str, ...]:
        """The container's cgroups: below the parent that the harness named, with the engine's id in their names."""
        container_id = self._cli.inspect(self._spec.name).get("Id", "")
        names = (container_id, f"libpod-{container_id}", f"libpod-conmon-{container_id}") if container_id else ()
        paths = (f"{self._spec.cgroup_parent}/{name}" for name in names)
        return tuple(path for path in paths if cgroups.directories(self._layout, path))

    def _processes(self) -> tuple[int, ...]:
        found = (cgroups.processes(self._layout, path) for path in self._cgroups() if "conmon" not in path)
        return tuple(pid for pids in found for pid in pids)


def _parent(pid: int) -> tuple[int, ...]:
    """Return a process's parent; none where the engine knows no process, or it has ended since."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return (int(file.read().rpartition(")")[2].split()[1]),)
    except (FileNotFoundError, ProcessLookupError):
        return ()
