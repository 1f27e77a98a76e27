"""The arm "docker": the daemon that DOCKER_HOST names, else the host's if it answers, else one of the lab's own."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from typing import Any

from lab.container.output import Drain
from lab.errors import LabError, UnavailableError
from lab.linux import command
from lab.paths import Paths, docker_host
from lab.target.backends.cached_check import first_line
from lab.target.backends.claim import abandoned, claims, unmarked
from lab.target.backends.dockerd import PrivateDaemon
from lab.target.backends.engine_cli import CliTarget, EngineCli
from lab.target.backends.failures import cannot
from lab.target.protocol import Backend
from lab.target.spec import Availability, MarkSink, NetworkMode, TargetSpec

_NAME = "docker"
_SYSTEM_SOCKET = "/var/run/docker.sock"
_UNIX = "unix://"


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
            address = self._address()
            version = _cli(address).require("check", "version", "--format", "{{.Server.Version}}")
        except (LabError, OSError) as error:
            return cannot(error, hint="start docker")
        finally:
            if started_here:
                self._daemon.stop()
        whose = "the lab's own, without firewall rules" if self._is_own(address) else "the host's"
        facts = (("isolation", "namespaces"), ("accelerator", "none"), ("version", version), ("daemon", whose))
        return Availability(available=True, facts=(*facts, ("runtime", first_line(("runc", "--version")))))

    def provision(self, spec: TargetSpec, marks: MarkSink) -> DockerTarget:
        """Create a container; what it raises is said in the protocol."""
        address = self._address()
        for leftover in abandoned(claims(self._paths, _NAME)):
            self._target(address, leftover, unmarked).reclaim()
        target = self._target(address, spec, marks)
        try:
            target.create()
        except BaseException:
            target.destroy()
            raise
        return target

    def _target(self, address: str, spec: TargetSpec, marks: MarkSink) -> DockerTarget:
        cli = _cli(address)
        network = DockerNetwork(cli, self._paths, own=self._is_own(address))
        return DockerTarget(cli, self._paths, network, self._drain, spec, marks, self._daemon)

    def close(self) -> None:
        """Stop the daemon that this backend has started, if it has."""
        self._daemon.stop()

    def _address(self) -> str:
        """Return the address of the daemon to use; one of our own is started if there is no other."""
        if address := users_daemon(docker_host()):
            return address
        if shutil.which("dockerd") is None or os.geteuid() != 0:
            raise UnavailableError("no docker daemon answers", hint="start docker, or install docker.io and use sudo")
        self._daemon.start()
        return f"{_UNIX}{self._daemon.socket}"

    def _is_own(self, address: str) -> bool:
        return address == f"{_UNIX}{self._daemon.socket}"


def _cli(address: str) -> EngineCli:
    return EngineCli(name=_NAME, prefix=("docker", "-H", address))


def users_daemon(named: str, system_socket: str = _SYSTEM_SOCKET) -> str:
    """Return the address of the user's daemon, "" when there is none: ``named`` by DOCKER_HOST, else the system's.

    Raises:
        UnavailableError: the one that is named is on another machine, or does not answer. Another one in its place
            would not be what was asked for.
    """
    if not named:
        address = f"{_UNIX}{system_socket}"
        return address if os.path.exists(system_socket) and not _silence(address) else ""
    if not named.startswith(_UNIX):
        raise UnavailableError(
            f"DOCKER_HOST is {named}: only a daemon on this machine can be measured, through its unix socket",
            hint="unset DOCKER_HOST, or set it to unix:///PATH",
        )
    if silence := _silence(named):
        hint = "start that daemon, or unset DOCKER_HOST"
        raise UnavailableError(
            f"the docker daemon that DOCKER_HOST names ({named}) does not answer: {silence}", hint=hint
        )
    return named


def _silence(address: str) -> str:
    """Return why no daemon answers at ``address``, "" when one does."""
    done = command.run(("docker", "-H", address, "version", "--format", "{{.Server.Version}}"))
    return "" if done.exit_code == 0 else done.error_text or f"exit code {done.exit_code}"


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
