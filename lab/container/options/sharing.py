"""--network, --pid, --ipc, --uts, --cgroupns, --userns: what a container shares with the host or another container."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace

from lab.container.defaults import ContainerNetwork, NamespaceMode
from lab.container.network.model import Endpoint
from lab.container.options import users
from lab.container.options.run import RunOptions
from lab.container.spec.runtime import JOINS
from lab.errors import SpecError

_NETWORKS = {"bridge": ContainerNetwork.BRIDGE, "default": ContainerNetwork.BRIDGE, "none": ContainerNetwork.NONE}
_MODES = {"pid": "PID", "ipc": "IPC", "uts": "UTS", "cgroupns": "CGROUP"}
_JOINABLE = frozenset(("pid", "ipc"))
_ALIASES = {"": NamespaceMode.PRIVATE, "shareable": NamespaceMode.PRIVATE}
_NO_NETWORK = "an ordinary user's container has no network of its own; --network host shares the host's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sharing:
    """The fields of ``ContainerConfig`` that say whose namespaces are whose, and what to tell the user about them."""

    network: ContainerNetwork
    network_namespace: str
    pid: str
    ipc: str
    uts: str
    cgroupns: str
    hostname: str
    users: users.Mappings
    warnings: tuple[str, ...] = ()


def sharing(options: RunOptions, *, read: Callable[[str], str], rootless: bool) -> Sharing:
    """Return what the flags ask for; names of containers to join have become ids by ``with_ids``.

    ``read`` gives the text of a file of the host; ``rootless`` if the engine is not root's.

    Raises:
        SpecError: a mode is none, or two of them contradict each other.
    """
    if options.privileged and options.userns not in ("", "host"):
        raise SpecError(
            "privileged mode is incompatible with user namespaces.  You must run the container in the host namespace "
            "when running privileged mode"
        )
    modes = {name: _mode(name, getattr(options, name)) for name in _MODES}
    namespace, network = _network(options.network)
    unconnected = rootless and network == ContainerNetwork.BRIDGE
    return Sharing(
        network=ContainerNetwork.NONE if unconnected else network,
        network_namespace=namespace,
        hostname=_hostname(options, modes["uts"], namespace),
        users=_users(options.userns, read),
        warnings=(_NO_NETWORK,) if unconnected else (),
        **modes,
    )


def with_ids(options: RunOptions, find: Callable[[str], str]) -> RunOptions:
    """Return the options with the id, by ``find``, of each container that they name to be joined."""

    def identified(mode: str) -> str:
        return JOINS + find(mode.removeprefix(JOINS)) if mode.startswith(JOINS) else mode

    return replace(
        options, pid=identified(options.pid), ipc=identified(options.ipc), network=identified(options.network)
    )


def _mode(name: str, text: str) -> str:
    mode = _ALIASES.get(text, text)
    joins = name in _JOINABLE and text.startswith(JOINS) and text != JOINS
    if mode in tuple(NamespaceMode) or joins or (name == "ipc" and mode == "none"):
        return mode
    said = f"Invalid IPC mode: {text}" if name == "ipc" else f"--{name}: invalid {_MODES[name]} mode"
    raise SpecError(said, hint="write private or host")


def _network(name: str) -> tuple[str, ContainerNetwork]:
    if name == NamespaceMode.HOST or name.startswith(JOINS):
        return name, ContainerNetwork.NONE
    return NamespaceMode.PRIVATE, _NETWORKS.get(name, ContainerNetwork.BRIDGE)


def endpoints(options: RunOptions) -> tuple[Endpoint, ...]:
    """Return the networks that a container is to be connected with, if not with the root's own bridge alone.

    Raises:
        SpecError: it can have none beside what it shares.
    """
    shares = options.network in (NamespaceMode.HOST, "none") or options.network.startswith(JOINS)
    plain = all(each == Endpoint(network=each.network) for each in options.endpoints)
    if shares and any(each.address or each.address6 for each in options.endpoints):
        raise SpecError("user specified IP address is supported on user defined networks only")
    if shares and (len(options.endpoints) > 1 or not plain):
        raise SpecError("conflicting options: cannot attach both user-defined and non-user-defined network-modes")
    if shares or (options.network in _NETWORKS and len(options.endpoints) < 2 and plain):
        return ()
    return options.endpoints or (Endpoint(network=options.network),)


def _hostname(options: RunOptions, uts: str, network: str) -> str:
    if uts == NamespaceMode.HOST and options.hostname:
        raise SpecError("conflicting options: hostname and the UTS mode")
    if network.startswith(JOINS) and options.hostname:
        raise SpecError("conflicting options: hostname and the network mode")
    named_as_host = NamespaceMode.HOST in (uts, network)
    return options.hostname or (os.uname().nodename if named_as_host else "")


def _users(mode: str, read: Callable[[str], str]) -> users.Mappings:
    if mode in ("", NamespaceMode.HOST):
        return users.Mappings()
    return users.mappings(mode, subuid=_if_there(read, "/etc/subuid"), subgid=_if_there(read, "/etc/subgid"))


def _if_there(read: Callable[[str], str], path: str) -> str:
    try:
        return read(path)
    except FileNotFoundError:
        return ""
