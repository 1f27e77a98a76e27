"""Carry network plans out: the only user of pyroute2, and of nft, for networks that outlive one target.

Its import costs 200 ms: nothing on a container's start path may import it. ``fastpath.py`` connects targets.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator

import pyroute2

from lab.container.network import ipam, plan, presence
from lab.container.network.model import Attachment, Bridge
from lab.errors import KernelError, StateConflict
from lab.linux import command
from lab.paths import Paths

_IP_FORWARD = "/proc/sys/net/ipv4/ip_forward"


_AF_INET = 2


def ensure_bridge(paths: Paths) -> Bridge:
    """Return this root's bridge, made and up; one that is already there costs a few file reads.

    Raises:
        KernelError: the kernel or nft refused; what was made before stays, and the next call goes on from there.
        ContainerError: no subnet is free.
    """
    found = presence.standing(paths)
    if found is not None:
        return found
    made = presence.recorded(paths)
    with _host_locked():
        existing = look()
        bridge = plan.choose_bridge(plan.bridge_name(paths.root), existing)
        was_off = not existing.forwarding or (made is not None and made.forwarding_was_off)
        presence.record(paths, presence.Made(bridge=bridge, forwarding_was_off=was_off))
        apply(plan.bring_up(bridge, existing))
    return bridge


def lease(paths: Paths, owner: str) -> Attachment:
    """Take an address on this root's bridge, made if need be; nobody removes the bridge as long as it is leased.

    Raises:
        KernelError: the kernel or nft refused.
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
        KernelError: the kernel or nft refused.
    """
    name = plan.bridge_name(paths.root)
    with ipam.locked(paths.networks, name):
        attached = [lease for lease in ipam.leased(paths.networks, name) if _has_link(lease.host_link)]
        if attached:
            raise StateConflict(f"bridge {name} still carries {attached[0].owner}", hint="destroy that target first")
        _take_down(paths, name)


def remove_idle_bridge(paths: Paths) -> None:
    """Remove this root's bridge unless someone has an address on it; whoever needs it later makes it again.

    Raises:
        KernelError: the kernel or nft refused.
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
        stop = made is not None and made.forwarding_was_off and not _other_bridges(name)
        apply(plan.take_down(name, look(), stop_forwarding=stop))
        with contextlib.suppress(FileNotFoundError):
            os.unlink(presence.record_path(paths))
    ipam.forget(paths.networks, name)


def look() -> plan.Existing:
    """Return the host's links, addresses, routes, nftables tables and forwarding as they are now."""
    with pyroute2.IPRoute() as netlink:
        links = {message["index"]: message for message in netlink.get_links()}
        names = {index: message.get_attr("IFLA_IFNAME") for index, message in links.items()}
        addresses: dict[str, tuple[str, ...]] = dict.fromkeys(names.values(), ())
        for message in netlink.get_addr(family=_AF_INET):
            name = names.get(message["index"])
            if name is not None:  # a link may have come after the list of links
                cidr = f"{message.get_attr('IFA_LOCAL')}/{message['prefixlen']}"
                addresses[name] = (*addresses[name], cidr)
        routes = tuple(
            f"{message.get_attr('RTA_DST') or '0.0.0.0'}/{message['dst_len']}"
            for message in netlink.get_routes(family=_AF_INET)
        )
    up = frozenset(names[index] for index, message in links.items() if message["flags"] & presence.IFF_UP)
    return plan.Existing(addresses=addresses, up=up, routes=routes, tables=_nft_tables(), forwarding=_forwarding())


def apply(ops: tuple[plan.LinkOp, ...]) -> None:
    """Carry ``ops`` out in order.

    Raises:
        KernelError: the first one that was refused, with the kernel's or nft's reason.
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
            netlink.link("add", ifname=op.name, kind="bridge", br_stp_state=0, br_forward_delay=0)
        case plan.AddAddress():
            index = netlink.link_lookup(ifname=op.link)[0]
            netlink.addr("add", index=index, address=op.address, prefixlen=op.prefix_length)
        case plan.RaiseLink():
            netlink.link("set", index=netlink.link_lookup(ifname=op.link)[0], state="up")
        case plan.DeleteLink():
            netlink.link("del", index=netlink.link_lookup(ifname=op.link)[0])
        case plan.SetForwarding():
            with open(_IP_FORWARD, "w", encoding="ascii") as file:
                file.write(str(int(op.enabled)))
        case plan.LoadRules():
            _nft(op.ruleset)


def _nft(ruleset: str) -> None:
    done = command.run(("nft", "-f", "-"), stdin=ruleset.encode())
    if done.exit_code != 0:
        raise OSError(f"nft: {done.error_text}")


def _nft_tables() -> frozenset[str]:
    """Names of the ip tables; none where nft is not installed, so that loading ours says what is missing."""
    try:
        done = command.run(("nft", "-j", "list", "tables", "ip"))
    except FileNotFoundError:
        return frozenset()
    if done.exit_code != 0:
        raise KernelError("list", "nftables tables", done.error_text, hint="this needs root")
    entries = json.loads(done.stdout)["nftables"]
    return frozenset(entry["table"]["name"] for entry in entries if "table" in entry)


def _forwarding() -> bool:
    with open(_IP_FORWARD, encoding="ascii") as file:
        return file.read().strip() != "0"


def _other_bridges(name: str) -> list[str]:
    return [
        link for link in os.listdir(presence.LINKS) if link != name and os.path.isdir(f"{presence.LINKS}/{link}/bridge")
    ]


def _has_link(name: str) -> bool:
    return os.path.exists(os.path.join(presence.LINKS, name))


@contextlib.contextmanager
def _host_locked() -> Iterator[None]:
    """Hold the lock that all lab roots of this host share, so that two never choose the same subnet.

    It is on the directory of links itself: the one place that every root sees, whatever its own directories are.
    """
    lock = os.open(presence.LINKS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
