"""Carry network plans out: the only user of pyroute2, for networks that outlive one target.

Its import costs 200 ms: nothing on a container's start path may import it. ``fastpath.py`` connects targets.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
from collections.abc import Iterator
from typing import Any

import pyroute2

from lab.container.network import dns, fastpath, ipam, neighbours, plan, presence
from lab.container.network.model import Attachment, Bridge
from lab.container.state import ContainerDirectory
from lab.errors import KernelError, NoSuchContainer, StateConflict
from lab.linux import links, nftables, rtnetlink
from lab.paths import Paths

_log = logging.getLogger(__name__)

_LINKS = "/sys/class/net"
_IPV4, _IPV6 = "/proc/sys/net/ipv4", "/proc/sys/net/ipv6/conf"
_IP_FORWARD = f"{_IPV4}/ip_forward"
_AF_INET, _AF_INET6 = 2, 10
_IFA_F_NODAD = 0x02
_LINK_LOCAL = 253
_NFTABLES_HINT = "this needs root, and the package libnftables1: sudo ./lab.sh setup"


def ensure_bridge(paths: Paths) -> Bridge:
    """Return this root's bridge, made and up; one that is already there costs a few file reads.

    Raises:
        KernelError: the kernel or nftables refused; what was made before stays, and the next call goes on from there.
        ContainerError: no subnet is free.
    """
    found = presence.standing(paths)
    if found is not None:
        return found
    made, name = presence.recorded(paths), plan.bridge_name(paths.root)
    with _host_locked():
        existing = look(name)
        _try_to_clear_away(existing)
        bridge = plan.choose_bridge(name, existing)
        was_off = not existing.forwarding or (made is not None and made.forwarding_was_off)
        presence.record(paths, presence.Made(bridge=bridge, forwarding_was_off=was_off))
        _bring_up(paths, bridge, existing)
    return bridge


def ensure(paths: Paths, bridge: Bridge) -> None:
    """Bring a network's bridge up, as far as it is not.

    Raises:
        KernelError: the kernel or nftables refused; what was made before stays, and the next call goes on from there.
        StateConflict: the host has a route by now that overlaps its subnet.
    """
    table = plan.bridge_name(paths.root)
    with _host_locked():
        existing = look(table)
        if bridge.name not in existing.addresses:
            _try_to_clear_away(existing)
            for subnet in filter(None, (bridge.subnet, bridge.subnet6)):
                plan.require_free(subnet, existing.routes)
        _bring_up(paths, bridge, existing)


def _bring_up(paths: Paths, bridge: Bridge, existing: plan.Existing) -> None:
    apply(plan.bring_up(paths.root, bridge, existing))
    neighbours.accommodate(bridge)
    presence.note_docker(paths, bridge.name)
    if bridge.name not in existing.addresses:
        _put_back(paths, bridge)
        _warn(bridge)


def _warn(bridge: Bridge) -> None:
    with contextlib.suppress(OSError):  # somebody is just changing his rules
        for obstacle in neighbours.obstacles(bridge):
            _log.warning("%s; try: %s", obstacle.text, obstacle.hint)


def _put_back(paths: Paths, bridge: Bridge) -> None:
    """Put the containers back on a bridge that has been made again while they run."""
    directory = ContainerDirectory(paths.containers)
    for container_id in directory.ids():
        with contextlib.suppress(NoSuchContainer):
            state = directory.load(container_id)
            for attachment in state.attachments if state.pid else ():
                if attachment.bridge == bridge.name and links.exists(attachment.host_link):
                    fastpath.put_back(attachment)


def _try_to_clear_away(existing: plan.Existing) -> None:
    with contextlib.suppress(KernelError):  # whoever makes a bridge of his own has nothing to do with it
        _clear_away(existing)


def dead() -> dict[str, str]:
    """Return the bridges of roots that are not there any more, with these roots; those that carry nobody."""
    existing = look()
    return {name: root for name, root in _dead(existing).items() if name not in existing.carrying}


def clear_away() -> None:
    """Remove what roots that are not there any more have left: idle bridges, their rules and their name servers.

    Raises:
        KernelError: the kernel or nftables refused.
    """
    with _host_locked():
        _clear_away(look())


def _clear_away(existing: plan.Existing) -> None:
    found = _dead(existing)
    idle = sorted(set(found) - set(existing.carrying))
    if idle:
        apply(plan.clear_away(found, existing))
    for name in idle:
        neighbours.forget(name)
        dns.end_on(name)


def _dead(existing: plan.Existing) -> dict[str, str]:
    return {name: root for name, root in plan.roots(existing).items() if not os.path.isdir(root)}


def lease(paths: Paths, owner: str) -> Attachment:
    """Take an address on this root's bridge, made if need be; nobody removes the bridge as long as it is leased.

    Raises:
        KernelError: the kernel or nftables refused.
        ContainerError: no subnet or no address is free.
    """
    while True:
        bridge = ensure_bridge(paths)
        attachment = ipam.lease(paths.networks, bridge, owner)
        if presence.is_up(bridge.name):  # else someone has removed it, idle as it was, before it was leased
            return attachment
        ipam.release(paths.networks, attachment)


def remove_bridge(paths: Paths) -> None:
    """Remove this root's bridge, its rules and its lease files; safe to call when there is none.

    Forwarding is switched off again only if this root switched it on and no other bridge could rely on it.

    Raises:
        StateConflict: a target is still attached.
        KernelError: the kernel or nftables refused.
    """
    name = plan.bridge_name(paths.root)
    with ipam.locked(paths.networks, name):
        attached = [lease for lease in ipam.leased(paths.networks, name) if links.exists(lease.host_link)]
        if attached:
            raise StateConflict(f"bridge {name} still carries {attached[0].owner}", hint="destroy that target first")
        _take_down(paths, name)


def remove_idle_bridge(paths: Paths) -> None:
    """Remove this root's bridge unless someone has an address on it; whoever needs it later makes it again.

    Raises:
        KernelError: the kernel or nftables refused.
    """
    if presence.recorded(paths) is None:
        return
    name = plan.bridge_name(paths.root)
    with ipam.locked(paths.networks, name):
        if not ipam.leased(paths.networks, name):
            _take_down(paths, name)


def _take_down(paths: Paths, name: str) -> None:
    """Remove what is there of the bridge ``name``, whose leases are locked: nobody takes one meanwhile."""
    made = presence.recorded(paths)
    with _host_locked():
        existing = look(name)
        bridge = plan.choose_bridge(name, existing) if made is None else made.bridge
        stop = made is not None and made.forwarding_was_off and not set(existing.bridges) - {name}
        is_last = not set(existing.admitted) - {name}
        apply(plan.take_down(name, bridge, existing, is_last=is_last, stop_forwarding=stop))
        neighbours.forget(bridge.name)
        presence.forget_docker(paths, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(presence.record_path(paths))
    ipam.forget(paths.networks, name)


def remove(paths: Paths, bridge: Bridge) -> None:
    """Remove a network's bridge and its rules; safe to repeat.

    Raises:
        KernelError: the kernel or nftables refused.
    """
    table = plan.bridge_name(paths.root)
    with _host_locked():
        existing = look(table)
        is_last = not set(existing.admitted) - {bridge.name}
        apply(plan.take_down(table, bridge, existing, is_last=is_last))
        neighbours.forget(bridge.name)
        presence.forget_docker(paths, bridge.name)


def look(table: str = "") -> plan.Existing:
    """Return the host's links, addresses, routes, tables, forwarding, and the bridges that ``table`` admits."""
    with pyroute2.IPRoute() as netlink:
        found = {message["index"]: message for message in netlink.get_links()}
        names = {index: message.get_attr("IFLA_IFNAME") for index, message in found.items()}
        addresses: dict[str, tuple[str, ...]] = dict.fromkeys(names.values(), ())
        for message in (*netlink.get_addr(family=_AF_INET), *netlink.get_addr(family=_AF_INET6)):
            name = names.get(message["index"])
            if name is not None and message["scope"] != _LINK_LOCAL:  # a link may have come after the list of links
                address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                addresses[name] = (*addresses[name], f"{address}/{message['prefixlen']}")
        routes = tuple(
            f"{message.get_attr('RTA_DST') or '0.0.0.0'}/{message['dst_len']}"
            for message in netlink.get_routes(family=_AF_INET)
        )
    tables = _tables()
    return plan.Existing(
        addresses=addresses,
        up=frozenset(names[index] for index, message in found.items() if message["flags"] & rtnetlink.IFF_UP),
        routes=routes,
        tables=tables,
        admitted=_admitted(table) if table in tables else frozenset(),
        forwarding=_is_set(_IP_FORWARD),
        forwarding6=_is_set(f"{_IPV6}/all/forwarding"),
        bridges=frozenset(names[index] for index, message in found.items() if _kind(message) == "bridge"),
        carrying=frozenset(names.get(message.get_attr("IFLA_MASTER"), "") for message in found.values()),
        notes={names[index]: message.get_attr("IFLA_IFALIAS") or "" for index, message in found.items()},
    )


def _kind(message: Any) -> str:  # Any: pyroute2's messages
    return message.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or ""


def apply(ops: tuple[plan.LinkOp, ...]) -> None:
    """Carry ``ops`` out in order.

    Raises:
        KernelError: the first one that was refused, with the kernel's or nftables' reason.
    """
    with pyroute2.IPRoute() as netlink:
        for op in ops:
            try:
                _carry_out(netlink, op)
            except (pyroute2.NetlinkError, OSError) as error:
                reason = os.strerror(error.code) if isinstance(error, pyroute2.NetlinkError) else str(error)
                raise KernelError(plan.describe(op), "on this host", reason, hint="this needs root") from error


def _carry_out(netlink: pyroute2.IPRoute, op: plan.LinkOp) -> None:
    match op:
        case plan.AddBridge():
            mtu = {"mtu": op.mtu} if op.mtu else {}
            netlink.link(
                "add", ifname=op.name, kind="bridge", address=op.mac, br_stp_state=0, br_forward_delay=0, **mtu
            )
        case plan.AddAddress():
            index = netlink.link_lookup(ifname=op.link)[0]
            flags = {"flags": _IFA_F_NODAD} if ":" in op.address else {}
            netlink.addr("add", index=index, address=op.address, prefixlen=op.prefix_length, **flags)
        case plan.NoteRoot():
            netlink.link("set", index=netlink.link_lookup(ifname=op.link)[0], ifalias=plan.note(op.root))
        case plan.RaiseLink():
            netlink.link("set", index=netlink.link_lookup(ifname=op.link)[0], state="up")
        case plan.DeleteLink():
            netlink.link("del", index=netlink.link_lookup(ifname=op.link)[0])
        case plan.LoadRules():
            nftables.load(op.ruleset)
        case plan.SetForwarding():
            _set(_IP_FORWARD, int(op.enabled))
        case plan.RouteLoopback():
            _set(f"{_IPV4}/conf/{op.link}/route_localnet", 1)
        case plan.ForwardSix():
            _forward_six()


def _forward_six() -> None:
    """Forward IPv6; a link that takes routes from routers would no longer (accept_ra is 1), unless told so (2)."""
    for link in os.listdir(_IPV6):
        accept = f"{_IPV6}/{link}/accept_ra"
        with contextlib.suppress(FileNotFoundError):  # the link has gone
            if _read(accept) == "1":
                _set(accept, 2)
    _set(f"{_IPV6}/all/forwarding", 1)


def _set(path: str, value: int) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(str(value))


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read().strip()


def _is_set(path: str) -> bool:
    return os.path.exists(path) and _read(path) != "0"  # a kernel may be without IPv6


def _tables() -> frozenset[str]:
    return frozenset(entry["table"]["name"] for entry in _listed("list tables inet") if "table" in entry)


def _admitted(table: str) -> frozenset[str]:
    sets = [entry["set"] for entry in _listed(f"list set inet {table} bridges") if "set" in entry]
    return frozenset(element for each in sets for element in each.get("elem", ()))


def _listed(command: str) -> list[dict[str, Any]]:  # Any: what libnftables writes
    try:
        text = nftables.listing(command)
    except OSError as error:
        raise KernelError(command, "of nftables", str(error.strerror or error), hint=_NFTABLES_HINT) from error
    found: list[dict[str, Any]] = json.loads(text)["nftables"]
    return found


@contextlib.contextmanager
def _host_locked() -> Iterator[None]:
    """Hold the lock that all lab roots of this host share, so that two never choose the same subnet.

    It is on the directory of links itself: the one place that every root sees, whatever its own directories are.
    """
    lock = os.open(_LINKS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
