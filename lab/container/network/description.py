"""A network as docker's ``network inspect`` tells it, and which networks a list or a pruning is about; pure.

Source: docs.docker.com/reference/api/engine, "Inspect a network", and docs.docker.com/reference/cli/docker/network/ls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.container import labels
from lab.container.log_file import timestamp
from lab.container.network.model import Attachment, Network
from lab.errors import ContainerError

LISTED = ("driver", "id", "label", "name", "scope", "type", "dangling")
PRUNED = ("label", "label!", "until")
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}

Member = tuple[str, str, Attachment]
"""A container that runs on a network: its id, its name, its place there."""

Condition = Callable[[Network], bool]


def document(network: Network, members: Iterable[Member] = ()) -> dict[str, object]:
    """Return docker's JSON object for a network, its fields in docker's order."""
    bridge = network.bridge
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": timestamp(network.created_ns),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv6": bridge is not None and bool(bridge.subnet6),
        "IPAM": {"Driver": "default", "Options": {} if network.asked else None, "Config": _pools(network)},
        "Internal": bridge is not None and bridge.internal,
        "Attachable": network.attachable,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {
            container_id: _member(network, name, attachment) for container_id, name, attachment in _sorted(members)
        },
        "Options": dict(network.options),
        "Labels": dict(network.labels),
    }


def _sorted(members: Iterable[Member]) -> list[Member]:
    return sorted(members, key=lambda member: member[0])


def _pools(network: Network) -> list[dict[str, str]]:
    bridge = network.bridge
    if bridge is None:
        return []
    span = {"IPRange": bridge.ip_range} if bridge.ip_range else {}
    found = [{"Subnet": bridge.subnet, **span, **_gateway(network, bridge.gateway)}]
    if bridge.subnet6:
        found.append({"Subnet": bridge.subnet6, **_gateway(network, bridge.gateway6)})
    return found


def _gateway(network: Network, address: str) -> dict[str, str]:
    """Return the host's address as docker tells it: not if its user chose the subnet, and left this to the engine."""
    return {} if network.asked and address not in network.gateways else {"Gateway": address}


def _member(network: Network, name: str, attachment: Attachment) -> dict[str, str]:
    six = f"{attachment.address6}/{attachment.prefix6_length}" if attachment.address6 else ""
    return {
        "Name": name,
        "EndpointID": endpoint_id(network.id, attachment),
        "MacAddress": attachment.mac,
        "IPv4Address": f"{attachment.address}/{attachment.prefix_length}",
        "IPv6Address": six,
    }


def endpoint_id(network_id: str, attachment: Attachment) -> str:
    """Return by what an endpoint is known: it is another one with each address."""
    return hashlib.sha256(f"{network_id} {attachment.address} {attachment.mac}".encode()).hexdigest()


def conditions(filters: Mapping[str, Sequence[str]], is_used: Condition) -> tuple[Condition, ...]:
    """Return what has to hold of a network that is listed, all of it.

    Raises:
        ContainerError: a value is none.
    """
    makers: dict[str, Callable[[str], Condition]] = {
        "driver": lambda value: lambda network: network.driver == value,
        "id": lambda value: lambda network: value in network.id,
        "name": lambda value: lambda network: value in network.name,
        "scope": lambda value: lambda _: value == "local",
        "label": has_label,
        "type": _of_type,
        "dangling": lambda value: _dangling(value, is_used),
    }
    return tuple(_any([makers[name](value) for value in values], name) for name, values in filters.items())


def _any(holds: list[Condition], name: str) -> Condition:
    """Return whether one of some conditions holds; of labels, all have to."""
    many = all if name == "label" else any
    return lambda network: many(condition(network) for condition in holds)


def has_label(text: str) -> Condition:
    """Return whether a network has the label "KEY", or "KEY=VALUE"."""
    return lambda network: labels.hold(network.labels, text)


def _of_type(value: str) -> Condition:
    if value not in ("custom", "builtin"):
        raise ContainerError(f"invalid filter: 'type'='{value}'")
    return lambda network: network.is_predefined == (value == "builtin")


def _dangling(value: str, is_used: Condition) -> Condition:
    if value not in _TRUTHS:
        raise ContainerError(f"invalid filter: 'dangling'='{value}'")
    return lambda network: (not network.is_predefined and not is_used(network)) == _TRUTHS[value]
