"""What has to be done to the host's network, decided without touching it."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lab.container.network.model import Bridge
from lab.errors import ContainerError

SUBNET_POOL = "10.213.0.0/16"
"""Where the /24 of each lab root comes from: private (RFC 1918), and outside what docker (172.17.0.0/16 and up) and
podman (10.88.0.0/16) take by default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """The part of the host's network that planning looks at.

    ``addresses`` are CIDR strings by link, ``up`` the links that are up, ``routes`` the destinations of all routes in
    CIDR form, ``tables`` the names of nftables' ip tables, ``forwarding`` the host's net.ipv4.ip_forward.
    """

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    up: Collection[str] = ()
    routes: Collection[str] = ()
    tables: Collection[str] = ()
    forwarding: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddBridge:
    """Make a bridge without spanning tree, so that a new port forwards at once."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAddress:
    """Give a link an address."""

    link: str
    address: str
    prefix_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RaiseLink:
    """Set a link up."""

    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteLink:
    """Delete a link."""

    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetForwarding:
    """Let the host forward IPv4 between links, or no longer."""

    enabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRules:
    """Hand nft one transaction, which touches the table ``table`` of family ip and nothing else."""

    table: str
    ruleset: str


LinkOp = AddBridge | AddAddress | RaiseLink | DeleteLink | SetForwarding | LoadRules


def bridge_name(root: str) -> str:
    """Return the name of the bridge (and of the nftables table) of the lab root ``root``: 12 bytes, unique to it."""
    return f"lab-{hashlib.sha256(root.encode()).hexdigest()[:8]}"


def choose_bridge(name: str, existing: Existing) -> Bridge:
    """Return the bridge ``name`` with the subnet that it has already, else with a free one.

    The search begins at a place that follows from the name, so that the same root gets the same subnet again.

    Raises:
        ContainerError: each subnet of the pool overlaps a route of this host.
    """
    present = existing.addresses.get(name, ())
    if present:
        interface = ipaddress.ip_interface(present[0])
        return Bridge(name=name, subnet=str(interface.network), gateway=str(interface.ip))
    routes = [ipaddress.IPv4Network(route) for route in existing.routes if route != "0.0.0.0/0"]
    subnets = list(ipaddress.IPv4Network(SUBNET_POOL).subnets(new_prefix=24))
    start = hashlib.sha256(name.encode()).digest()[0] % len(subnets)
    for subnet in subnets[start:] + subnets[:start]:
        if not any(subnet.overlaps(route) for route in routes):
            return Bridge(name=name, subnet=str(subnet), gateway=str(subnet[1]))
    raise ContainerError(
        f"no free subnet for bridge {name}: every /24 of {SUBNET_POOL} overlaps a route of this host",
        hint="remove bridges of lab roots that are no longer used; `ip route` shows them",
    )


def bring_up(bridge: Bridge, existing: Existing) -> tuple[LinkOp, ...]:
    """Return what is missing for ``bridge`` to carry targets and let them out; nothing when all is there."""
    ops: list[LinkOp] = []
    if bridge.name not in existing.addresses:
        ops.append(AddBridge(name=bridge.name))
    if f"{bridge.gateway}/{bridge.prefix_length}" not in existing.addresses.get(bridge.name, ()):
        ops.append(AddAddress(link=bridge.name, address=bridge.gateway, prefix_length=bridge.prefix_length))
    if bridge.name not in existing.up:
        ops.append(RaiseLink(link=bridge.name))
    if not existing.forwarding:
        ops.append(SetForwarding(enabled=True))
    if bridge.name not in existing.tables:
        ops.append(LoadRules(table=bridge.name, ruleset=masquerade(bridge)))
    return tuple(ops)


def take_down(name: str, existing: Existing, *, stop_forwarding: bool) -> tuple[LinkOp, ...]:
    """Return what removes the bridge ``name`` and its rules; nothing when they are not there."""
    ops: list[LinkOp] = []
    if name in existing.tables:
        ops.append(LoadRules(table=name, ruleset=f"delete table ip {name}\n"))
    if name in existing.addresses:
        ops.append(DeleteLink(link=name))
    if stop_forwarding and existing.forwarding:
        ops.append(SetForwarding(enabled=False))
    return tuple(ops)


def masquerade(bridge: Bridge) -> str:
    """Return the rules that let targets out under the host's address, as one transaction in nft(8)'s language."""
    return (
        f"table ip {bridge.name} {{\n"
        f"  chain postrouting {{\n"
        f"    type nat hook postrouting priority srcnat; policy accept;\n"
        f'    ip saddr {bridge.subnet} oifname != "{bridge.name}" masquerade\n'
        f"  }}\n"
        f"}}\n"
    )


def describe(op: LinkOp) -> str:
    """Return an operation as one line for people: what ``--dry-run`` prints and errors name."""
    match op:
        case AddBridge():
            return f"add bridge {op.name}"
        case AddAddress():
            return f"add address {op.address}/{op.prefix_length} to {op.link}"
        case RaiseLink():
            return f"set link {op.link} up"
        case DeleteLink():
            return f"delete link {op.link}"
        case SetForwarding():
            return f"set net.ipv4.ip_forward = {int(op.enabled)}"
        case LoadRules():
            return f"load rules of nftables table ip {op.table}"
