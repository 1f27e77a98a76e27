"""The arm "podman", as root, with storage and configuration of the lab's own; connected to the lab's bridge."""

from __future__ import annotations

import os
import resource
import shutil
import time
from collections.abc import Mapping
from typing import Any

from lab.container.network import apply, ipam, namespace
from lab.container.network.model import Attachment
from lab.container.output import Drain
from lab.errors import LabError
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.backends.cached_check import cached, first_line
from lab.target.backends.claim import abandoned, claims, unmarked
from lab.target.backends.engine_cli import CliTarget, EngineCli
from lab.target.backends.failures import cannot
from lab.target.backends.probe_program import exit_program
from lab.target.protocol import Backend
from lab.target.spec import Availability, MarkSink, NetworkMode, TargetSpec
from lab.units import NS_PER_S

_NAME = "podman"
_RUNTIME = "runc"  # podman's own choice, crun, refuses hosts with cgroup v1 and v2 mounted
_PROBE_CODE = 7
_NPROC = 32768  # below what podman leaves its children; the pids cgroup limits a target more


def open_backend(name: str, paths: Paths) -> Backend:
    """Return the backend of podman."""
    del name  # there is one only
    return PodmanBackend(paths)


class PodmanBackend:
    """Podman as a way of isolating."""

    def __init__(self, paths: Paths) -> None:
        """Open the backend; nothing is written before it is needed."""
        self._paths = paths
        self._drain = Drain()
        self._bridged = False

    @property
    def name(self) -> str:
        """What users type and reports print."""
        return _NAME

    def check(self) -> Availability:
        """Return whether podman runs a container here: the smallest program there is, which must end rightly."""
        if os.geteuid() != 0:
            return Availability(available=False, reason="the podman arm needs root", hint="use sudo")
        for program in (_NAME, _RUNTIME, "conmon"):
            if shutil.which(program) is None:
                hint = f"apt-get install {program}"
                return Availability(available=False, reason=f"{program} is not installed", hint=hint)
        return cached(self._paths, "target-podman", (_NAME, _RUNTIME, "conmon"), self._try_container)

    def _try_container(self) -> Availability:
        try:
            done = _run_probe(self._cli(), os.path.join(self._paths.run, f"podman-check-{os.getpid()}"))
        except (LabError, OSError) as error:
            return cannot(error)
        if done.exit_code != _PROBE_CODE:
            reason = f"podman ran a container that ended with code {done.exit_code}: {done.error_text}"
            return Availability(available=False, reason=reason, hint="try `podman run` by hand")
        facts = (
            ("isolation", "namespaces"),
            ("accelerator", "none"),
            ("version", first_line((_NAME, "--version"))),
            ("runtime", first_line((_RUNTIME, "--version"))),
            ("network", "the lab's own bridge"),
        )
        return Availability(available=True, facts=facts)

    def provision(self, spec: TargetSpec, marks: MarkSink) -> CliTarget:
        """Create a container; what it raises is said in the protocol."""
        self.repair()
        self._bridged |= spec.network == NetworkMode.BRIDGE
        target = CliTarget(self._cli(), self._paths, _Network(self._paths), self._drain, spec, marks)
        try:
            target.create()
        except BaseException:
            target.destroy()
            raise
        return target

    def repair(self) -> None:
        """Remove what killed owners left with podman."""
        for spec in abandoned(claims(self._paths, _NAME)):
            CliTarget(self._cli(), self._paths, _Network(self._paths), self._drain, spec, unmarked).reclaim()

    def close(self) -> None:
        """Remove the bridge if this backend has used it and nobody else does; safe to call twice."""
        if self._bridged:
            apply.remove_idle_bridge(self._paths)
            self._bridged = False

    def _cli(self) -> EngineCli:
        state = os.path.join(self._paths.run, _NAME)
        os.makedirs(state, mode=0o700, exist_ok=True)
        configuration = os.path.join(state, "containers.conf")
        with open(f"{configuration}.{os.getpid()}", "w", encoding="utf-8") as file:
            file.write('[containers]\nlog_driver = "none"\n')
        os.rename(f"{configuration}.{os.getpid()}", configuration)
        options = (
            *(f"--root={self._paths.root}/podman", f"--runroot={state}/run", f"--tmpdir={state}/tmp"),
            *(
                f"--runtime={_RUNTIME}",
                "--cgroup-manager=cgroupfs",
                "--events-backend=none",
                "--storage-driver=overlay",
            ),
        )
        # env runs podman in its own place, so that the rest of the environment is as it is
        # its monitor leaves a file "oom" in the directory where podman was called: let that be one of ours
        called = ("env", f"--chdir={os.path.dirname(configuration)}", f"CONTAINERS_CONF={configuration}", _NAME)
        return EngineCli(name=_NAME, prefix=(*called, *options), create_options=_ulimits())


def _ulimits() -> tuple[str, ...]:
    """Podman would raise these limits to a million, which a root without CAP_SYS_RESOURCE may not."""
    nofile = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return ("--ulimit", f"nofile={nofile}:{nofile}", "--ulimit", f"nproc={_NPROC}:{_NPROC}")


def _run_probe(cli: EngineCli, rootfs: str) -> command.Completed:
    os.makedirs(rootfs)
    cgroup = f"lab/{os.path.basename(rootfs)}"
    try:
        with open(os.path.join(rootfs, "probe"), "wb", opener=lambda path, flags: os.open(path, flags, 0o755)) as file:
            file.write(exit_program(_PROBE_CODE))
        options = ("--rm", "--network", "none", "--cgroup-parent", f"/{cgroup}", *cli.create_options)
        return cli.run("run", *options, "--rootfs", rootfs, "/probe", timeout_s=60)
    finally:
        cgroups.remove(cgroups.detect(), cgroup, deadline_ns=time.monotonic_ns() + 10 * NS_PER_S)
        shutil.rmtree(rootfs)


class _Network:
    """A named namespace on the lab's bridge: podman's own networks need plug-ins that few hosts have."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._attachment: Attachment | None = None

    def options(self, spec: TargetSpec) -> tuple[str, ...]:
        """Return the options of `create`; the namespace is there already."""
        if spec.network == NetworkMode.NONE:
            return ("--network", "none")
        apply.ensure_bridge(self._paths)
        namespace.create(self._path(spec))  # podman looks whether it is there
        return ("--network", f"ns:{self._path(spec)}")

    def connect(self, spec: TargetSpec) -> None:
        """Give the namespace its link, address and route."""
        if spec.network == NetworkMode.BRIDGE:
            if not os.path.exists(self._path(spec)):  # it went with the last stop
                namespace.create(self._path(spec))
            self._attachment = apply.lease(self._paths, spec.name)
            namespace.connect(self._path(spec), self._attachment)

    def address(self, spec: TargetSpec, inspected: Mapping[str, Any]) -> str:  # Any: JSON
        """Return the leased address."""
        del spec, inspected
        return "" if self._attachment is None else self._attachment.address

    def disconnect(self, spec: TargetSpec) -> None:
        """Drop the namespace, its link with it, and give the address back."""
        namespace.remove(self._path(spec))
        if self._attachment is not None:
            ipam.release(self._paths.networks, self._attachment)
            self._attachment = None

    def _path(self, spec: TargetSpec) -> str:
        return os.path.join(self._paths.run, "netns", spec.name)
