"""Connect one network namespace to a bridge, on the start path: two short exchanges of raw rtnetlink, about 1 ms.

The veth's inner end is *born* in the target's namespace, with its name and hardware address, by the same message
that enslaves and raises the outer end: no link is ever moved or renamed. Nothing here deletes a link: an
explicit deletion waits 30 ms for RCU, so a target is disconnected by dropping its namespace, and the kernel reaps.
"""

from __future__ import annotations

import os
import struct

from lab.linux import libc, namespaces, sockets
from lab.linux import rtnetlink as rt

TYPE_CHECKING = False
if TYPE_CHECKING:  # the model imports dataclasses, which this path does not need
    from lab.container.network.model import Attachment, AttachmentFields

_INNER_LINK = "eth0"
_SIOCSIFFLAGS = 0x8914
_IFREQ = struct.Struct("=16sh22x")  # a name, flags, and the rest of the union
_LOOPBACK_INDEX = 1  # the loopback is the first link of each network namespace
_CHANGE = rt.NLM_F_REQUEST | rt.NLM_F_ACK
_CREATE = _CHANGE | rt.NLM_F_CREATE | rt.NLM_F_EXCL
_REPLACE = _CHANGE | rt.NLM_F_CREATE | rt.NLM_F_REPLACE


class PlainAttachment:
    """An ``Attachment`` without dataclasses, whose import would cost the spawner more than a container's start."""

    __slots__ = (
        "address", "address6", "bridge", "gateway", "gateway6", "hairpin", "host_link", "inner_link", "isolated", "mac",
        "mtu", "prefix6_length", "prefix_length",
    )  # fmt: skip

    def __init__(self, fields: AttachmentFields) -> None:
        self.bridge, self.host_link, self.address, self.prefix_length, self.gateway, self.mac = fields[:6]
        self.inner_link, self.address6, self.prefix6_length, self.gateway6 = fields[6:10]
        self.mtu, self.isolated, self.hairpin = fields[10:]


def connect(attachments: tuple[PlainAttachment, ...], netns_fd: int) -> None:
    """Make all of a container's links, and all but what it does itself by ``inside``: the first one's IPv4.

    To be called in the host's network namespace, by a process that has one thread.

    Raises:
        OSError: as ``host_side`` and ``inner_side``.
    """
    for attachment in attachments:
        host_side(attachment, netns_fd)
    first, *others = attachments
    if not others and not first.address6:
        return
    own = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.setns(netns_fd, namespaces.CLONE_NEWNET, path="the container's network namespace")
        channel = rt.open_socket()  # which stays there
        namespaces.setns(own, namespaces.CLONE_NEWNET, path="/proc/self/ns/net")
    finally:
        os.close(own)
    with channel:
        inner_side(first, channel, has_four=True)
        for attachment in others:
            inner_side(attachment, channel)


def inner_side(attachment: Attachment | PlainAttachment, channel: sockets.Socket, *, has_four: bool = False) -> None:
    """Raise a container's link, and give it its addresses and ways out; with ``has_four`` those of IPv6 only.

    ``channel`` is one that was opened in the container's network namespace; it stays the caller's.

    Raises:
        OSError: errno and the link: ENODEV (``host_side`` has not been called), EEXIST (the address is there), EPERM.
    """
    link = attachment.inner_link
    index = rt.link_index(channel, link)
    requests = [_up(index, link)]
    if not has_four:
        requests.append(_address(attachment.address, attachment.prefix_length, index, link))
    if attachment.gateway and not has_four:
        requests.append(default_route(attachment.gateway, index))
    if attachment.address6:
        requests.append(_address(attachment.address6, attachment.prefix6_length, index, link))
    if attachment.gateway6:
        requests.append(default_route(attachment.gateway6, index))
    rt.transact(channel, tuple(requests))


def _address(address: str, prefix_length: int, index: int, link: str) -> rt.Request:
    if ":" in address:
        packed = sockets.inet_pton(sockets.AF_INET6, address)
        head = rt.ifaddrmsg(
            prefix_length=prefix_length, index=index, family=sockets.AF_INET6, flags=rt.IFA_F_NODAD
        )  # nobody else can have it: so it counts at once
        body = head + rt.attribute(rt.IFA_LOCAL, packed) + rt.attribute(rt.IFA_ADDRESS, packed)
    else:
        packed = sockets.inet_aton(address)
        broadcast = (int.from_bytes(packed, "big") | ((1 << (32 - prefix_length)) - 1)).to_bytes(4, "big")
        body = (
            rt.ifaddrmsg(prefix_length=prefix_length, index=index)
            + rt.attribute(rt.IFA_LOCAL, packed)
            + rt.attribute(rt.IFA_ADDRESS, packed)
            + rt.attribute(rt.IFA_BROADCAST, broadcast)
        )
    return rt.Request(rt.RTM_NEWADDR, _CREATE, body, f"address {address} on {link}")


def default_route(gateway: str, index: int) -> rt.Request:
    """Return the request that makes a link the way out, in place of any other."""
    family = sockets.AF_INET6 if ":" in gateway else sockets.AF_INET
    body = (
        rt.rtmsg(family=family)
        + rt.attribute(rt.RTA_GATEWAY, sockets.inet_pton(family, gateway))
        + rt.attribute(rt.RTA_OIF, rt.number(index))
    )
    return rt.Request(rt.RTM_NEWROUTE, _REPLACE, body, f"default route via {gateway}")


def host_side(attachment: Attachment | PlainAttachment, netns_fd: int) -> None:
    """Make the veth whose outer end is on the bridge and up, and whose inner end is in the namespace ``netns_fd``.

    To be called in the host's network namespace. Source: rtnetlink(7), linux/veth.h.

    Raises:
        OSError: errno and the link: EEXIST (the link's name is taken), ENODEV (the bridge is not there), EPERM.
    """
    bridge_index = sockets.if_nametoindex(attachment.bridge)
    with rt.open_socket() as channel:
        port = (_bridge_port(attachment),) if attachment.isolated or attachment.hairpin else ()
        rt.transact(channel, (_new_veth(attachment, bridge_index, netns_fd), *port))


def inside(attachment: Attachment | PlainAttachment, channel: sockets.Socket | None = None) -> None:
    """Raise loopback and eth0, and give eth0 its address and default route, as one batch.

    To be called in the target's network namespace, or with a ``channel`` that was opened in it.

    Raises:
        OSError: errno and the link: ENODEV (``host_side`` has not been called), EEXIST (the address is there), EPERM.
    """
    with channel or rt.open_socket() as netlink:
        index = rt.link_index(netlink, _INNER_LINK)
        rt.transact(netlink, (_up(_LOOPBACK_INDEX, "lo"), *_inner_requests(attachment, index)))


def loopback_up() -> None:
    """Raise the loopback of this network namespace: all that a target without network has.

    Raises:
        OSError: errno, and "link lo".
    Source: man netdevice(7).
    """
    with sockets.Socket(sockets.AF_INET, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC) as channel:
        libc.syscall("ioctl", channel.fileno(), _SIOCSIFFLAGS, _IFREQ.pack(b"lo", rt.IFF_UP), path="link lo")


def _new_veth(attachment: Attachment | PlainAttachment, bridge_index: int, netns_fd: int) -> rt.Request:
    mtu = rt.attribute(rt.IFLA_MTU, rt.number(attachment.mtu)) if attachment.mtu else b""
    peer = (
        rt.ifinfomsg()  # born down: a veth cannot open before its other end exists (ENOTCONN)
        + rt.attribute(rt.IFLA_IFNAME, rt.text(attachment.inner_link))
        + rt.attribute(rt.IFLA_ADDRESS, bytes.fromhex(attachment.mac.replace(":", "")))
        + mtu
        + rt.attribute(rt.IFLA_NET_NS_FD, rt.number(netns_fd))
    )
    info = rt.attribute(rt.IFLA_INFO_KIND, rt.text("veth")) + rt.attribute(
        rt.IFLA_INFO_DATA, rt.attribute(rt.VETH_INFO_PEER, peer)
    )
    body = (
        rt.ifinfomsg(flags=rt.IFF_UP, change=rt.IFF_UP)
        + rt.attribute(rt.IFLA_IFNAME, rt.text(attachment.host_link))
        + rt.attribute(rt.IFLA_MASTER, rt.number(bridge_index))
        + mtu
        + rt.attribute(rt.IFLA_LINKINFO, info)
    )
    return rt.Request(rt.RTM_NEWLINK, _CREATE, body, f"veth {attachment.host_link} on {attachment.bridge}")


def _bridge_port(attachment: Attachment | PlainAttachment) -> rt.Request:
    """Return the change of the outer end as a port of the bridge. Source: linux/if_link.h, IFLA_BRPORT."""
    settings = rt.attribute(rt.IFLA_BRPORT_MODE, bytes((attachment.hairpin,))) + rt.attribute(
        rt.IFLA_BRPORT_ISOLATED, bytes((attachment.isolated,))
    )
    info = rt.attribute(rt.IFLA_INFO_SLAVE_KIND, rt.text("bridge")) + rt.attribute(rt.IFLA_INFO_SLAVE_DATA, settings)
    body = (
        rt.ifinfomsg()
        + rt.attribute(rt.IFLA_IFNAME, rt.text(attachment.host_link))
        + rt.attribute(rt.IFLA_LINKINFO, info)
    )
    return rt.Request(rt.RTM_NEWLINK, _CHANGE, body, f"port {attachment.host_link} of {attachment.bridge}")


def _inner_requests(attachment: Attachment | PlainAttachment, index: int) -> tuple[rt.Request, ...]:
    found = (_up(index, _INNER_LINK), _address(attachment.address, attachment.prefix_length, index, _INNER_LINK))
    return (*found, default_route(attachment.gateway, index)) if attachment.gateway else found


def _up(index: int, name: str) -> rt.Request:
    body = rt.ifinfomsg(index=index, flags=rt.IFF_UP, change=rt.IFF_UP)
    return rt.Request(rt.RTM_SETLINK, _CHANGE, body, f"link {name}")
