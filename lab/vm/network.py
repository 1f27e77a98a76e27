"""Addresses of guests: a point-to-point link each, from a pool that no host uses.

The pool is 198.19.0.0/16, half of the range that RFC 2544 sets aside for benchmarks; each guest has four addresses
of it: network, host, guest, broadcast. libvirt makes the tap device, we give it the host's address, init sets the
guest's. (libvirt could set it, but does so at each resume, and the second time fails.) A lease is a name in
the network namespace: it ends with the process that has it, however that ends.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from lab.errors import UnavailableError
from lab.linux import rtnetlink as rt
from lab.vm.domain_spec import DomainNetwork, UserNetwork

POOL = ipaddress.IPv4Network("198.19.0.0/16")
_PREFIX_LENGTH = 30
_STEP = 1 << (32 - _PREFIX_LENGTH)
_MAC_PREFIX = "52:54:00"  # QEMU's own. Source: QEMU docs/system/devices/net.rst
_CREATE = rt.NLM_F_REQUEST | rt.NLM_F_ACK | rt.NLM_F_CREATE | rt.NLM_F_EXCL
# What QEMU's network in user space looks like from inside. Source: QEMU docs/system/devices/net.rst
USER_GUEST, USER_NETMASK, USER_GATEWAY = "10.0.2.15", "255.255.255.0", "10.0.2.2"
LINK_PREFIX = "labvm"  # a link's name has at most 15 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A link's addresses, held until ``release`` or the end of this process: by a name in the network namespace.

    An abstract socket's name has the very scope of a link's, and the kernel takes it back from whoever dies.
    """

    network: DomainNetwork
    claim: socket.socket

    def release(self) -> None:
        """Give the addresses back."""
        self.claim.close()


def link_at(index: int) -> DomainNetwork:
    """Return the link with this index in the pool.

    Raises:
        ValueError: the pool is not that large.
    """
    if not 0 <= index < POOL.num_addresses // _STEP:
        raise ValueError(f"no link {index} in {POOL}")
    base = POOL.network_address + index * _STEP
    return DomainNetwork(
        link=f"{LINK_PREFIX}{index}",
        mac=f"{_MAC_PREFIX}:{19:02x}:{index >> 8:02x}:{index & 255:02x}",
        host_address=str(base + 1),
        guest_address=str(base + 2),
        prefix_length=_PREFIX_LENGTH,
    )


def netmask(network: DomainNetwork) -> str:
    """Return the link's netmask, dotted."""
    return str(ipaddress.IPv4Network(f"0.0.0.0/{network.prefix_length}").netmask)


def parse_routes(table: str) -> tuple[ipaddress.IPv4Network, ...]:
    """Return the destinations in the text of /proc/net/route, without the default route.

    Source: man proc(5), kernel net/ipv4/fib_trie.c: hexadecimal, in the host's byte order.
    """
    found = []
    for line in table.splitlines()[1:]:
        fields = line.split()
        address, mask = (struct.pack("=I", int(fields[index], 16)) for index in (1, 7))
        network = ipaddress.IPv4Network((address, str(ipaddress.IPv4Address(mask))), strict=False)
        if network.prefixlen:
            found.append(network)
    return tuple(found)


def is_free(network: DomainNetwork, routes: Iterable[ipaddress.IPv4Network]) -> bool:
    """Return whether no route of the host leads into this link's addresses."""
    ours = ipaddress.IPv4Network(f"{network.host_address}/{network.prefix_length}", strict=False)
    return not any(ours.overlaps(route) for route in routes)


def user_network(forwards: tuple[tuple[int, int], ...] = ()) -> UserNetwork:
    """Return a network in user space; every guest has one of its own, so all of them have the same address."""
    return UserNetwork(mac=f"{_MAC_PREFIX}:13:ff:ff", forwards=forwards)


def configure_host_side(network: DomainNetwork) -> None:
    """Give the host's end of a link its address, and tell the host where the guest is; it may still be down.

    A link on a bridge needs neither: the bridge has the address, and learns where the guest is.

    The guest's hardware address is known, so it is not asked for: while a guest boots nobody would answer, and the
    kernel asks again only once a second. Both go with the link.

    Raises:
        OSError: with errno and the link or address.
    """
    if network.bridge:
        return
    with rt.open_socket() as channel:
        index = rt.link_index(channel, network.link)
        rt.transact(channel, (_new_address(network, index), _new_neighbour(network, index)))


def _new_address(network: DomainNetwork, index: int) -> rt.Request:
    local = ipaddress.IPv4Interface(f"{network.host_address}/{network.prefix_length}")
    body = (
        rt.ifaddrmsg(prefix_length=network.prefix_length, index=index)
        + rt.attribute(rt.IFA_LOCAL, local.packed)
        + rt.attribute(rt.IFA_ADDRESS, local.packed)
        + rt.attribute(rt.IFA_BROADCAST, local.network.broadcast_address.packed)
    )
    return rt.Request(rt.RTM_NEWADDR, _CREATE, body, f"address {local} on {network.link}")


def _new_neighbour(network: DomainNetwork, index: int) -> rt.Request:
    body = (
        rt.ndmsg(index=index, state=rt.NUD_PERMANENT)
        + rt.attribute(rt.NDA_DST, ipaddress.IPv4Address(network.guest_address).packed)
        + rt.attribute(rt.NDA_LLADDR, bytes.fromhex(network.mac.replace(":", "")))
    )
    return rt.Request(rt.RTM_NEWNEIGH, _CREATE, body, f"neighbour {network.guest_address} on {network.link}")


def lease() -> Lease:
    """Return addresses that no guest has, of any root, and no route of the host leads to.

    Raises:
        UnavailableError: the pool is used up.
    """
    with open("/proc/net/route", encoding="ascii") as file:
        routes = parse_routes(file.read())
    for index in range(POOL.num_addresses // _STEP):
        network = link_at(index)
        claim = _claim(network.link) if is_free(network, routes) else None
        if claim is not None:
            return Lease(network=network, claim=claim)
    raise UnavailableError(f"no addresses left for guests in {POOL}", hint="ip route show root 198.19.0.0/16")


def _claim(link: str) -> socket.socket | None:
    """Return a socket whose name says that a link is taken, None when someone else has it."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claim.bind(f"\0{link}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return None
    return claim
