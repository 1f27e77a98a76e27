"""The arm "docker": the user's daemon if it answers, else one of the lab's own."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from typing import Any

from lab.container.output import Drain
from lab.errors import LabError, UnavailableError
from lab.linux import command
from lab.paths import Paths
from lab.target.backends.cached_check import first_line
from lab.target.backends.dockerd import PrivateDaemon
from lab.target.backends.engine_cli import CliTarget, EngineCli
from lab.target.backends.failures import cannot
from lab.target.protocol import Backend
from lab.target.spec import Availability, MarkSink, NetworkMode, TargetSpec

_NAME = "docker"
_SYSTEM_SOCKET = "/var/run/docker.sock"


def open_backend(name: str, paths: Paths) -> Backend:
    """Return the backend of docker."""
    del name  # there is one only
    return DockerBackend(paths)


class DockerBackend:
    """Docker as a way of isolating."""

    def __init__(self, paths: Paths) -> None:
        """Open the backend; no daemon is started before it is needed."""
        self._paths = paths
        self._drain = Drain()
        self._daemon = PrivateDaemon(paths)

    @property
    def name(self) -> str:
        """What users type and reports print."""
        return _NAME

    def check(self) -> Availability:
        """Return whether a daemon answers, or one of our own starts; one that was started for this is stopped again."""
        if shutil.which("docker") is None:
            return Availability(available=False, reason="docker is not installed", hint="apt-get install docker.io")
        started_here = self._daemon.pid is None
        try:
            cli = self._cli()
            version = cli.require("check", "version", "--format", "{{.Server.Version}}")
        except (LabError, OSError) as error:
            return cannot(error, hint="start docker")
        finally:
            if started_here:
                self._daemon.stop()
        whose = "the host's" if _system_answers() else "the lab's own, without firewall rules"
        facts = (("isolation", "namespaces"), ("accelerator", "none"), ("version", version), ("daemon", whose))
        return Availability(available=True, facts=(*facts, ("runtime", first_line(("runc", "--version")))))

    def provision(self, spec: TargetSpec, marks: MarkSink) -> DockerTarget:
        """Create a container; what it raises is said in the protocol."""
        cli = self._cli()
        network = DockerNetwork(cli, self._paths, own=not _system_answers())
        target = DockerTarget(cli, self._paths, network, self._drain, spec, marks, self._daemon)
        try:
            target.create()
        except BaseException:
            target.destroy()
            raise
        return target

    def close(self) -> None:
        """Stop the daemon that this backend has started, if it has."""
        self._daemon.stop()

    def _cli(self) -> EngineCli:
        if _system_answers():
            return EngineCli(name=_NAME, prefix=("docker", "-H", f"unix://{_SYSTEM_SOCKET}"))
        if shutil.which("dockerd") is None or os.geteuid() != 0:
            raise UnavailableError("no docker daemon answers", hint="start docker, or install docker.io and use sudo")
        self._daemon.start()
        return EngineCli(name=_NAME, prefix=("docker", "-H", f"unix://{self._daemon.socket}"))


class DockerTarget(CliTarget):
    """One docker container."""

    def __init__(
        self,
        cli: EngineCli,
        paths: Paths,
        network: DockerNetwork,
        drain: Drain,
        spec: TargetSpec,
        marks: MarkSink,
        daemon: PrivateDaemon,
    ) -> None:
        """Take note of the daemon and the network as well."""
        super().__init__(cli, paths, network, drain, spec, marks)
        self._daemon = daemon
        self._network = network

    def destroy(self) -> None:
        """Remove the container and, with the last one on it, the lab's network."""
        super().destroy()
        self._network.remove(self._spec)

    def shared_daemons(self) -> tuple[tuple[str, int], ...]:
        """Return dockerd's pid where it is ours."""
        return () if self._daemon.pid is None else (("dockerd", self._daemon.pid),)


class DockerNetwork:
    """Docker's default bridge, or on a daemon of our own, which has none, a network made for the lab."""

    def __init__(self, cli: EngineCli, paths: Paths, *, own: bool) -> None:
        """``own``: on a daemon of the lab's own."""
        self._cli = cli
        digest = hashlib.sha256(paths.root.encode()).hexdigest()
        self._name = f"labd-{digest[:8]}" if own else "bridge"
        self._own = own

    def options(self, spec: TargetSpec) -> tuple[str, ...]:
        """Return the options of `create`; the lab's network is made where there is none."""
        if spec.network == NetworkMode.NONE:
            return ("--network", "none")
        if self._own and self._cli.run("network", "inspect", self._name).exit_code != 0:
            option = f"com.docker.network.bridge.name={self._name}"
            self._cli.require("provision", "network", "create", "--opt", option, self._name)
        return ("--network", self._name)

    def connect(self, spec: TargetSpec) -> None:
        """Do nothing: docker connects at `start`."""
        del spec  # docker's own work, at `start`

    def address(self, spec: TargetSpec, inspected: Mapping[str, Any]) -> str:  # Any: JSON
        """Return the address that docker gave."""
        del spec
        networks = inspected.get("NetworkSettings", {}).get("Networks", {})
        return str(networks.get(self._name, {}).get("IPAddress", ""))

    def disconnect(self, spec: TargetSpec) -> None:
        """Do nothing: docker disconnects at `stop`."""
        del spec  # docker's own work, at `stop`

    def remove(self, spec: TargetSpec) -> None:
        """Remove the lab's network with its last container."""
        if self._own and spec.network == NetworkMode.BRIDGE:  # refused, rightly, while another target uses it
            self._cli.run("network", "rm", self._name)


def _system_answers() -> bool:
    if not os.path.exists(_SYSTEM_SOCKET):
        return False
    return command.run(("docker", "-H", f"unix://{_SYSTEM_SOCKET}", "version")).exit_code == 0
