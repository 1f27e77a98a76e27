"""The arms "runc", "crun" and "runsc": any OCI runtime's command line on a bundle of ours.

The bundle has the same layers, limits, capabilities, seccomp profile and masked paths as our own engine's containers.
What the arm can see: the runtime was started (SPAWNED), and the payload's ready byte.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

from lab.container.image.store import ImageStore
from lab.container.network import apply, ipam, namespace
from lab.container.network.model import Attachment
from lab.container.output import Drain
from lab.container.storage import snapshots
from lab.container.storage.snapshots import Overlay
from lab.errors import ContainerError, LabError, TargetError
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.linux.cgroup.layout import CgroupKind, CgroupLayout
from lab.linux.command import Completed
from lab.paths import Paths
from lab.target.backends import execution_mark, oci_bundle
from lab.target.backends.attached import Attached
from lab.target.backends.cached_check import cached, first_line
from lab.target.backends.cgroup_footprint import cgroup_directories
from lab.target.backends.claim import Claim, abandoned, claim, claims, unmarked
from lab.target.backends.failures import cannot, no_endpoint, took_too_long
from lab.target.backends.main_output import MainOutput
from lab.target.backends.probe_program import exit_program
from lab.target.backends.runtime_words import exit_code_of
from lab.target.protocol import Backend
from lab.target.spec import (
    Availability,
    Command,
    Endpoint,
    Execution,
    Footprint,
    Limits,
    MarkName,
    MarkSink,
    NetworkMode,
    TargetSpec,
)
from lab.units import NS_PER_S

_TERM_GRACE_NS = 3 * NS_PER_S
_KILL_GRACE_NS = 30 * NS_PER_S
_PROBE_CODE = 7
# Takes the v2 mount away in a mount namespace of its own, then becomes the program. The arguments are not parsed.
_WITHOUT_V2 = ("unshare", "--mount", "--propagation", "private", "sh", "-c", 'umount "$1" && shift && exec "$@"', "sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """What is special to one runtime.

    ``options`` come before the verb, those of ``network_options`` by the kind of network. A runtime with a kernel of
    its own keeps its processes from the host's sight; ``helpers`` begin the command lines of those that are not its
    kernel. ``refuses_hybrid``: it runs only where no cgroup v2 is mounted beside v1.
    """

    isolation: str
    options: tuple[str, ...] = ()
    network_options: Mapping[NetworkMode, tuple[str, ...]] = field(default_factory=dict)
    own_kernel: bool = False
    helpers: tuple[str, ...] = ()
    refuses_hybrid: bool = False


_ARMS = {
    "runc": Arm(isolation="namespaces"),
    "crun": Arm(isolation="namespaces", refuses_hybrid=True),
    "runsc": Arm(
        isolation="kernel in user space",
        options=("--platform=ptrace",),  # the one that needs no virtualisation
        # "host" is the stack of the namespace that the bundle names; "sandbox" (gVisor's own stack) takes every
        # namespace of a kernel from 6.x on for the host's own, and refuses it
        network_options={NetworkMode.NONE: ("--network=none",), NetworkMode.BRIDGE: ("--network=host",)},
        own_kernel=True,
        helpers=("runsc-gofer",),
    ),
}


def open_backend(name: str, paths: Paths) -> Backend:
    """Return the backend of the runtime called ``name``."""
    return OciRuntimeBackend(name, paths)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeProgram:
    """A runtime's command line, with its state under ``root``."""

    name: str
    arm: Arm
    root: str
    layout: CgroupLayout

    @property
    def wrapped(self) -> bool:
        """Whether it can only run with the v2 hierarchy out of its sight."""
        return self.arm.refuses_hybrid and self.layout.kind == CgroupKind.HYBRID

    def argv(self, *verb: str, network: NetworkMode, log: str) -> tuple[str, ...]:
        """Return the whole command line; what the runtime itself has to say goes to ``log`` as JSON, too."""
        unified = self.layout.hierarchy("")
        wrapper = (*_WITHOUT_V2, unified.mount_point) if self.wrapped and unified else ()
        options = (*self.arm.options, *self.arm.network_options.get(network, ()))
        return (*wrapper, self.name, f"--root={self.root}", f"--log={log}", "--log-format=json", *options, *verb)


class OciRuntimeBackend:
    """One OCI runtime as a way of isolating."""

    def __init__(self, name: str, paths: Paths) -> None:
        """Open the backend; nothing is made or run before it is needed."""
        self._paths = paths
        self._drain = Drain()
        root = os.path.join(paths.run, name)
        self._bridged = False
        self._program = RuntimeProgram(name=name, arm=_ARMS[name], root=root, layout=cgroups.detect())

    @property
    def name(self) -> str:
        """What users type and reports print."""
        return self._program.name

    def check(self) -> Availability:
        """Return whether the runtime runs a container here: a program of twelve instructions, that must end rightly."""
        if os.geteuid() != 0:
            return Availability(available=False, reason=f"{self.name} needs root here", hint="use sudo")
        if shutil.which(self.name) is None:
            return Availability(
                available=False, reason=f"{self.name} is not installed", hint=f"apt-get install {self.name}"
            )
        return cached(self._paths, f"target-{self.name}", (self.name,), self._try_container)

    def _try_container(self) -> Availability:
        try:
            done = _run_probe(self._program)
        except (LabError, OSError) as error:
            return cannot(error)
        if done.exit_code != _PROBE_CODE:
            reason = f"{self.name} ran a container that ended with code {done.exit_code}: {done.error_text}"
            return Availability(available=False, reason=reason, hint=f"try `{self.name} run` by hand")
        return Availability(available=True, facts=tuple(self._facts()))

    def _facts(self) -> Iterator[tuple[str, str]]:
        yield "isolation", self._program.arm.isolation
        yield "accelerator", "none"
        yield "version", first_line((self.name, "--version"))
        yield "cgroup_layout", str(self._program.layout.kind)
        yield (
            "seccomp",
            "docker's default" if not self._program.arm.own_kernel else "gVisor's own, of the whole sandbox",
        )
        if self._program.wrapped:
            yield "started_through", "unshare, sh and umount: it refuses hosts with cgroup v1 and v2 mounted"
        if self._program.arm.own_kernel:
            yield "platform", "ptrace"

    def provision(self, spec: TargetSpec, marks: MarkSink) -> OciTarget:
        """Lay out a bundle: an empty writable layer over the image's, and ``config.json``.

        Raises:
            ImageNotFound: the store has no such manifest.
            TargetError: it could not be laid out; nothing is left.
        """
        self.repair()
        layers = ImageStore.open(self._paths).layer_directories(spec.image)
        self._bridged |= spec.network == NetworkMode.BRIDGE
        target = OciTarget(self._program, self._paths, self._drain, spec, marks, layers)
        try:
            target.lay_out()
        except (OSError, ContainerError) as error:
            target.destroy()
            raise TargetError(str(error), backend=self.name, phase="provision") from error
        return target

    def repair(self) -> None:
        """Remove what killed owners left of this arm's targets."""
        for spec in abandoned(claims(self._paths, self.name)):
            OciTarget(self._program, self._paths, self._drain, spec, unmarked, ()).reclaim()

    def close(self) -> None:
        """Remove the bridge if this backend has used it and nobody else does; safe to call twice."""
        if self._bridged:
            apply.remove_idle_bridge(self._paths)
            self._bridged = False


def _run_probe(program: RuntimeProgram) -> Completed:
    name = f"lab-check-{program.name}-{os.getpid()}"
    spec = TargetSpec(name=name, image="", command=Command(argv=("/probe",)), limits=Limits(pids=64))
    with tempfile.TemporaryDirectory(prefix="lab-check-") as bundle, ExitStack() as undo:
        undo.callback(cgroups.remove, program.layout, f"lab/{name}", deadline_ns=time.monotonic_ns() + _KILL_GRACE_NS)
        os.makedirs(program.root, mode=0o700, exist_ok=True)
        rootfs = os.path.join(bundle, "rootfs")
        for directory in ("", "proc", "dev", "sys"):
            os.mkdir(os.path.join(rootfs, directory))
        with open(os.path.join(rootfs, "probe"), "wb", opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
            file.write(exit_program(_PROBE_CODE))
        _write_config(bundle, oci_bundle.document(spec, rootfs=rootfs, scratch="", netns=""))
        verb = ("run", f"--bundle={bundle}", name)
        return command.run(program.argv(*verb, network=NetworkMode.NONE, log=os.path.join(bundle, "log")), timeout_s=60)


def _write_config(bundle: str, document: Mapping[str, object]) -> None:
    with open(os.path.join(bundle, "config.json"), "w", encoding="utf-8") as file:
        json.dump(document, file)


class OciTarget:
    """One bundle and, once started, its container."""

    def __init__(
        self,
        program: RuntimeProgram,
        paths: Paths,
        drain: Drain,
        spec: TargetSpec,
        marks: MarkSink,
        layers: tuple[str, ...],
    ) -> None:
        """Take note; ``lay_out`` makes the files."""
        self._program = program
        self._paths = paths
        self._output = MainOutput(program.name, spec, marks, drain)
        self._spec = spec
        self._marks = marks
        self._layers = layers
        self._directory = os.path.join(paths.containers, spec.name)
        self._netns = os.path.join(paths.run, "netns", spec.name)
        self._attachment: Attachment | None = None
        self._main: Attached | None = None
        self._claim: Claim | None = None
        self._log_numbers = itertools.count()

    @property
    def spec(self) -> TargetSpec:
        """What was asked for."""
        return self._spec

    def lay_out(self) -> None:
        """Make the bundle's directory and files.

        Raises:
            OSError: they cannot be made.
            KernelError: the bridge cannot be made.
        """
        self._claim = claim(claims(self._paths, self._program.name), self._spec)
        os.makedirs(self._program.root, mode=0o700, exist_ok=True)
        os.makedirs(self._directory, mode=0o700)
        for name in ("rootfs", "upper", "work", *(("data",) if self._spec.scratch_bytes else ())):
            os.mkdir(self._path(name))
        bridged = self._spec.network == NetworkMode.BRIDGE
        if bridged:
            apply.ensure_bridge(self._paths)
        document = oci_bundle.document(
            self._spec,
            rootfs=self._path("rootfs"),
            scratch=self._path("data") if self._spec.scratch_bytes else "",
            netns=self._netns if bridged else "",
        )
        _write_config(self._directory, document)

    def start(self) -> None:
        """Mount the layers, connect the network and run the container; what it raises is said in the protocol."""
        deadline_ns = time.monotonic_ns() + self._spec.start_timeout_ns
        try:
            snapshots.mount_overlay(
                Overlay(lower=self._layers, upper=self._path("upper"), work=self._path("work")), self._path("rootfs")
            )
            self._connect()
            argv = self._argv("run", f"--bundle={self._directory}", self._spec.name)
            self._main = Attached(argv, self._output)
            self._marks(MarkName.SPAWNED, None)
            self._main.await_ready(deadline_ns)
        except TargetError:
            self._undo_start()
            raise
        except (OSError, LabError) as error:
            self._undo_start()
            raise self._output.failure(str(error), "start") from error

    def _connect(self) -> None:
        if self._spec.network != NetworkMode.BRIDGE:
            return
        namespace.create(self._netns)
        self._attachment = apply.lease(self._paths, self._spec.name)
        namespace.connect(self._netns, self._attachment)

    def exec(self, command: Command) -> Execution:
        """Run a program in the container; what it raises is said in the protocol."""
        if self._main is None or not self._main.is_alive():
            raise self._output.failure("it does not run", "exec")
        mark = execution_mark.new_mark()
        log = self._new_log()
        pid_file = f"{log}.pid"
        try:
            done = self._run(self._exec_argv(command, mark, log, pid_file), command)
        except TimeoutError:
            self._kill_execution(mark, pid_file)
            raise took_too_long(command, backend=self._program.name) from None
        # a program that has run has a pid; without one the runtime failed, though a full disk kept it from saying so
        complaint = _complaint(log) or ("" if _pid_in(pid_file) else done.error_text)
        if done.exit_code != 0 and complaint:
            code = exit_code_of(complaint)
            if code is not None:
                return Execution(exit_code=code, stdout=done.stdout, stderr=done.stderr)
            raise self._output.failure(complaint, "exec")
        return Execution(exit_code=_payload_code(done.exit_code), stdout=done.stdout, stderr=done.stderr)

    def _exec_argv(self, command: Command, mark: str, log: str, pid_file: str) -> tuple[str, ...]:
        lines = (mark, *(f"{name}={value}" for name, value in command.env))
        environment = tuple(word for line in lines for word in ("--env", line))
        # runsc tells its own numbering of processes, by which it can kill one
        which = "--internal-pid-file" if self._program.arm.own_kernel else "--pid-file"
        verb = ("exec", which, pid_file, "--cwd", command.cwd, *environment, self._spec.name, *command.argv)
        return self._program.argv(*verb, network=self._spec.network, log=log)

    def _run(self, argv: tuple[str, ...], payload: Command) -> Completed:
        try:
            return command.run(argv, stdin=payload.stdin, timeout_s=payload.timeout_ns / NS_PER_S)
        except FileNotFoundError as error:
            raise self._output.failure(str(error), "exec") from error

    def _kill_execution(self, mark: str, pid_file: str) -> None:
        if not self._program.arm.own_kernel:
            execution_mark.kill_marked(mark, self._processes)
            return
        self._invoke("kill", "--pid", _pid_in(pid_file), self._spec.name, "KILL")

    def footprint(self) -> Footprint:
        """Return the container's cgroups and processes; `RUNTIME run` and a gofer are helpers."""
        pids = self._processes()
        helpers = {pid for pid in pids if _command_name(pid).startswith(self._program.arm.helpers or ("\n",))}
        running = {self._main.pid} if self._main is not None and self._main.is_alive() else set()
        return Footprint(
            cgroups=cgroup_directories(self._program.layout, self._cgroup),
            pids=tuple(pid for pid in pids if pid not in helpers),
            helper_pids=tuple(sorted(helpers | running)),
            links=() if self._attachment is None else (self._attachment.host_link,),
            guest_memory=self._program.arm.own_kernel,
        )

    def endpoint(self) -> Endpoint:
        """Return where the container's service answers.

        Raises:
            TargetError: it has no network, no service, or has not been started.
        """
        if self._attachment is None or self._spec.service_port is None:
            raise no_endpoint(self._program.name)
        return Endpoint(host=self._attachment.address, port=self._spec.service_port)

    def provenance(self) -> Mapping[str, str]:
        """Return the bundle's configuration, as the runtime read it."""
        with open(self._path("config.json"), encoding="utf-8") as file:
            return {"oci_config": json.dumps(json.load(file), indent=2)}

    def pause(self) -> None:
        """Freeze every process of the container."""
        self._require("pause", self._spec.name)

    def resume(self) -> None:
        """Let them go on."""
        self._require("resume", self._spec.name)

    def stop(self) -> None:
        """Stop the container, SIGTERM first, then by force; what it raises is said in the protocol."""
        if self._main is None:
            return
        if self._main.is_alive():
            self._invoke("kill", self._spec.name, signal.Signals.SIGTERM.name)
        self._main.wait(time.monotonic_ns() + _TERM_GRACE_NS)
        self._terminate()
        self._marks(MarkName.GONE, None)
        self._undo_start()

    def destroy(self) -> None:
        """Remove the container, its bundle and all that belongs to it."""
        self.stop()
        self._undo_start()
        if os.path.isdir(self._directory):
            shutil.rmtree(self._directory)
        if self._claim is not None:
            self._claim.release()

    def reclaim(self) -> None:
        """Remove the target though another process, now dead, has laid it out and perhaps started it."""
        self._terminate()
        if os.path.isdir(self._directory):
            self._invoke("delete", "--force", self._spec.name)
        self.destroy()

    def _terminate(self) -> None:
        deadline_ns = time.monotonic_ns() + _KILL_GRACE_NS
        cgroups.kill(self._program.layout, self._cgroup, deadline_ns=deadline_ns)
        if self._main is not None and self._main.wait(deadline_ns) is None:
            self._main.kill()

    def _undo_start(self) -> None:
        """Take back whatever start() has made; what is not there is left out."""
        if self._main is not None:
            self._terminate()
            self._invoke("delete", "--force", self._spec.name)
            self._main = None
        snapshots.unmount(self._path("rootfs"))
        namespace.remove(self._netns)
        if self._attachment is not None:
            ipam.release(self._paths.networks, self._attachment)
            self._attachment = None
        deadline_ns = time.monotonic_ns() + _KILL_GRACE_NS
        cgroups.remove(self._program.layout, self._cgroup, deadline_ns=deadline_ns)

    @property
    def _cgroup(self) -> str:
        return f"{self._spec.cgroup_parent}/{self._spec.name}"

    def _processes(self) -> tuple[int, ...]:
        return cgroups.processes(self._program.layout, self._cgroup)

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _new_log(self) -> str:
        return self._path(f"log-{next(self._log_numbers)}")

    def _argv(self, *verb: str) -> tuple[str, ...]:
        return self._program.argv(*verb, network=self._spec.network, log=self._new_log())

    def _invoke(self, *verb: str) -> Completed:
        return command.run(self._argv(*verb), timeout_s=60)

    def _require(self, *verb: str) -> None:
        done = self._invoke(*verb)
        if done.exit_code != 0:
            raise self._output.failure(done.error_text, verb[0])


def _payload_code(code: int) -> int:
    return 128 - code if code < 0 else code


def _pid_in(path: str) -> str:
    """Return the pid that a runtime wrote, "" when it started no program."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def _complaint(log: str) -> str:
    """Return the first error that a runtime wrote to its log, "" when it had none: then the exit code is the payload's.

    Some put a newline between entries, and some none.
    """
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            text = file.read()
    except FileNotFoundError:
        return ""
    decoder = json.JSONDecoder()
    at = 0
    while (at := text.find("{", at)) >= 0:
        try:
            entry, at = decoder.raw_decode(text, at)
        except ValueError:
            return text[at:]
        if entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""


def _command_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().partition(b"\0")[0].decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
