"""What has to be done to the host's network, decided without touching it."""

from __future__ import annotations

import hashlib
import ipaddress
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lab.container.network import firewall
from lab.container.network.model import Bridge, hardware_address
from lab.errors import ContainerError, StateConflict

SUBNET_POOLS = ("10.213.0.0/16", "10.214.0.0/16", "10.215.0.0/16")
"""Where the /24 of each bridge comes from: private (RFC 1918), and outside what docker (172.17.0.0/16 and up) and
podman (10.88.0.0/16) take by default. The first is for the bridges that roots have of themselves as well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """The part of the host's network that planning looks at.

    ``addresses`` are CIDR strings by link, ``up`` the links that are up, ``routes`` the destinations of all routes in
    CIDR form, ``tables`` the names of nftables' inet tables, ``admitted`` the bridges that this root's rules know;
    ``forwarding`` and ``forwarding6`` whether the host forwards IPv4, IPv6. ``bridges`` are all of the host,
    ``carrying`` those that have a port, ``notes`` what links say of themselves (ip-link(8), "alias").
    """

    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    up: Collection[str] = ()
    routes: Collection[str] = ()
    tables: Collection[str] = ()
    admitted: Collection[str] = ()
    forwarding: bool = False
    forwarding6: bool = False
    bridges: Collection[str] = ()
    carrying: Collection[str] = ()
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddBridge:
    """Make a bridge without spanning tree, so that a new port forwards at once; ``mtu`` 0 is the kernel's own.

    Its hardware address is its own: else it would be that of one of its ports, and change as they come and go, while
    its targets go on with the one that they have learnt.
    """

    name: str
    mac: str
    mtu: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAddress:
    """Give a link an address, which counts at once: nobody is asked whether he has it too."""

    link: str
    address: str
    prefix_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRoot:
    """Let a bridge say which root it belongs to, so that who finds it later can see whether that is still there."""

    link: str
    root: str


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
class ForwardSix:
    """Let the host forward IPv6 between links; where it learns its own routes from routers, it goes on doing so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteLoopback:
    """Let what comes from the host's own loopback be sent out of a link: see ``firewall.table``."""

    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRules:
    """Hand nftables one transaction, which touches the table ``table`` of family inet and nothing else."""

    table: str
    ruleset: str


LinkOp = (
    AddBridge | AddAddress | NoteRoot | RaiseLink | DeleteLink | SetForwarding | ForwardSix | RouteLoopback | LoadRules
)


def bridge_name(root: str) -> str:
    """Return the name of the bridge (and of the nftables table) of the lab root ``root``: 12 bytes, unique to it."""
    return f"lab-{hashlib.sha256(root.encode()).hexdigest()[:8]}"


_NOTE = "lab root "
_NOTE_BYTES = 255  # IFALIASZ without the final zero


def note(root: str) -> str:
    """Return what a bridge of this root says of itself; "" if the kernel has no room for it."""
    text = f"{_NOTE}{root}"
    return text if len(os.fsencode(text)) <= _NOTE_BYTES else ""


def roots(existing: Existing) -> dict[str, str]:
    """Return the root of each bridge that says that it belongs to one."""
    found = ((name, existing.notes.get(name, "")) for name in existing.bridges)
    return {name: text.removeprefix(_NOTE) for name, text in found if text.startswith(f"{_NOTE}/")}


def choose_bridge(name: str, existing: Existing) -> Bridge:
    """Return the bridge ``name`` with the subnet that it has already, else with a free one.

    Raises:
        ContainerError: each subnet of the pool overlaps a route of this host.
    """
    present = existing.addresses.get(name, ())
    if present:
        interface = ipaddress.ip_interface(present[0])
        return Bridge(name=name, subnet=str(interface.network), gateway=str(interface.ip))
    subnet = choose_subnet(name, existing.routes)
    return Bridge(name=name, subnet=str(subnet), gateway=str(subnet[1]))


def choose_subnet(name: str, taken: Collection[str]) -> ipaddress.IPv4Network:
    """Return a subnet that overlaps none of those that are ``taken``; IPv6 and default routes among them are no matter.

    The search begins at a place that follows from the name, so that the same bridge gets the same subnet again.

    Raises:
        ContainerError: each subnet of the pools overlaps one.
    """
    networks = [network for network in map(ipaddress.ip_network, taken) if network.prefixlen]
    start = hashlib.sha256(name.encode()).digest()[0]
    for pool in SUBNET_POOLS:
        subnets = list(ipaddress.IPv4Network(pool).subnets(new_prefix=24))
        for subnet in subnets[start:] + subnets[:start]:
            if not any(network.version == subnet.version and subnet.overlaps(network) for network in networks):
                return subnet
    raise ContainerError(
        f"no free subnet for bridge {name}: every /24 of {', '.join(SUBNET_POOLS)} overlaps a route of this host",
        hint="name one by --subnet, or remove networks that are no longer used; `ip route` shows who has them",
    )


def overlapping(subnet: str, taken: Collection[str]) -> str:
    """Return the first of the ``taken`` subnets that overlaps this one, "" if none does."""
    wanted = ipaddress.ip_network(subnet)
    for text in taken:
        other = ipaddress.ip_network(text)
        if other.prefixlen and other.version == wanted.version and wanted.overlaps(other):
            return text
    return ""


def require_free(subnet: str, taken: Collection[str]) -> None:
    """Check that no route of this host overlaps a subnet.

    Raises:
        StateConflict: one does.
    """
    other = overlapping(subnet, taken)
    if other:
        raise StateConflict(
            f"subnet {subnet} overlaps the route to {other} of this host", hint="give another one by --subnet"
        )


def bring_up(root: str, bridge: Bridge, existing: Existing) -> tuple[LinkOp, ...]:
    """Return what is missing for ``bridge`` of a root to carry targets; nothing when all is there."""
    table = bridge_name(root)
    ops: list[LinkOp] = []
    if table not in existing.tables:
        ops.append(LoadRules(table=table, ruleset=firewall.table(table)))
    if bridge.name not in existing.admitted:
        ops.append(LoadRules(table=table, ruleset=firewall.admit(table, bridge)))
    if bridge.name not in existing.addresses:
        ops += (
            AddBridge(name=bridge.name, mac=hardware_address(bridge.gateway), mtu=bridge.mtu),
            RouteLoopback(link=bridge.name),
        )
    if existing.notes.get(bridge.name, "") != note(root):
        ops.append(NoteRoot(link=bridge.name, root=root))
    for own in bridge.own_addresses:
        if own not in existing.addresses.get(bridge.name, ()):
            address, _, length = own.partition("/")
            ops.append(AddAddress(link=bridge.name, address=address, prefix_length=int(length)))
    if bridge.name not in existing.up:
        ops.append(RaiseLink(link=bridge.name))
    if not existing.forwarding and not bridge.internal:
        ops.append(SetForwarding(enabled=True))
    if bridge.subnet6 and not existing.forwarding6 and not bridge.internal:
        ops.append(ForwardSix())
    return tuple(ops)


def take_down(
    table: str, bridge: Bridge, existing: Existing, *, is_last: bool, stop_forwarding: bool = False
) -> tuple[LinkOp, ...]:
    """Return what removes a bridge and its rules, the whole table with the last; nothing when they are not there."""
    ops: list[LinkOp] = []
    if table in existing.tables:
        ruleset = firewall.drop_table(table) if is_last else firewall.dismiss(table, bridge)
        ops.append(LoadRules(table=table, ruleset=ruleset))
    if bridge.name in existing.addresses:
        ops.append(DeleteLink(link=bridge.name))
    if stop_forwarding and existing.forwarding:
        ops.append(SetForwarding(enabled=False))
    return tuple(ops)


def clear_away(dead: Mapping[str, str], existing: Existing) -> tuple[LinkOp, ...]:
    """Return what removes bridges (name to root) of roots that are gone, with their rules; what carries somebody stays.

    The rules go first: what is left by who is killed in between says still whose it was.
    """
    idle = {name: root for name, root in dead.items() if name not in existing.carrying}
    carrying = {root for name, root in dead.items() if name in existing.carrying}
    tables = sorted({bridge_name(root) for root in set(idle.values()) - carrying} & set(existing.tables))
    dropped = (LoadRules(table=table, ruleset=firewall.drop_table(table)) for table in tables)
    return (*dropped, *(DeleteLink(link=name) for name in sorted(idle)))


def describe(op: LinkOp) -> str:
    """Return an operation as one line for people: what ``--dry-run`` prints and errors name."""
    match op:
        case AddBridge():
            return f"add bridge {op.name}"
        case AddAddress():
            return f"add address {op.address}/{op.prefix_length} to {op.link}"
        case NoteRoot():
            return f"note at {op.link} that it is {op.root}'s"
        case RaiseLink():
            return f"set link {op.link} up"
        case DeleteLink():
            return f"delete link {op.link}"
        case SetForwarding():
            return f"set net.ipv4.ip_forward = {int(op.enabled)}"
        case ForwardSix():
            return "set net.ipv6.conf.all.forwarding = 1"
        case RouteLoopback():
            return f"set net.ipv4.conf.{op.link}.route_localnet = 1"
        case LoadRules():
            return f"load rules of nftables table inet {op.table}"
