"""Connect one network namespace to a bridge, on the start path: two short exchanges of raw rtnetlink, about 1 ms.

The veth's inner end is *born* in the target's namespace, with its name and hardware address, by the same message
that enslaves and raises the outer end: no link is ever moved or renamed. Nothing here deletes a link: an
explicit deletion waits 30 ms for RCU, so a target is disconnected by dropping its namespace, and the kernel reaps.
"""

from __future__ import annotations

from lab.linux import links, sockets
from lab.linux import rtnetlink as rt

TYPE_CHECKING = False
if TYPE_CHECKING:  # the model imports dataclasses, which this path does not need
    from collections.abc import Iterable

    from lab.container.network.model import Attachment, AttachmentFields

_INDEX_MARK = 0x7EADBEEF
"""Stands for the index of a link until it is known; as an IPv4 address it would be one of multicast."""
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


def inner_side(attachment: Attachment | PlainAttachment, channel: sockets.Socket) -> None:
    """Raise a container's link, and give it its addresses and ways out.

    ``channel`` is one that was opened in the container's network namespace; it stays the caller's.

    Raises:
        OSError: errno and the link: ENODEV (``host_side`` has not been called), EEXIST (the address is there), EPERM.
    """
    rt.converse(channel, _inner_exchanges(attachment))


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
        OSError: errno and the link: EEXIST (the link's name is taken), ENODEV (the bridge is not there), EPERM, EMFILE.
    """
    bridge_index = links.index(attachment.bridge)
    with rt.open_socket() as channel:
        port = (_bridge_port(attachment),) if attachment.isolated or attachment.hairpin else ()
        rt.transact(channel, (_new_veth(attachment, bridge_index, netns_fd), *port))


def put_back(attachment: Attachment) -> None:
    """Put the outer end of a container's link on its bridge, which has been made anew.

    Raises:
        OSError: errno and the link: ENODEV (one of the two is not there), EPERM.
    """
    body = rt.ifinfomsg() + rt.attribute(rt.IFLA_IFNAME, rt.text(attachment.host_link))
    master = rt.attribute(rt.IFLA_MASTER, rt.number(links.index(attachment.bridge)))
    with rt.open_socket() as channel:
        change = rt.Request(rt.RTM_NEWLINK, _CHANGE, body + master, f"link {attachment.host_link}")
        rt.transact(channel, (change, _bridge_port(attachment)))


def let_back(attachment: Attachment) -> None:
    """Let a container that runs reach itself through a port of the host: see ``Attachment.hairpin``.

    Raises:
        OSError: errno and the link: ENODEV (it is not there), EOPNOTSUPP (it is on no bridge), EPERM.
    """
    with rt.open_socket() as channel:
        rt.transact(channel, (_bridge_port(attachment),))


def inside(attachment: Attachment | PlainAttachment, channel: sockets.Socket | None = None) -> None:
    """Raise loopback and the inner link, and give that its address and default route.

    To be called in the target's network namespace, or with a ``channel`` that was opened in it.

    Raises:
        OSError: errno and the link: ENODEV (``host_side`` has not been called), EEXIST (the address is there), EPERM.
    """
    carry_out(exchanges((attachment,)), channel)


def exchanges(attachments: Iterable[Attachment | PlainAttachment]) -> bytes:
    """Return all that is to be said to the kernel in a container's network namespace, for ``carry_out`` or the machine.

    That is the loopback, and for each link the question for its index, and a batch with the places where that belongs.
    """
    loopback = rt.pack_exchange((_up(_LOOPBACK_INDEX, "lo"),))
    return loopback + b"".join(map(_inner_exchanges, attachments))


def _inner_exchanges(attachment: Attachment | PlainAttachment) -> bytes:
    question = rt.pack_exchange((rt.link_question(attachment.inner_link),))
    return question + rt.pack_exchange(_inner_requests(attachment), index_mark=_INDEX_MARK)


def carry_out(message: bytes, channel: sockets.Socket | None = None) -> None:
    """Carry out what ``exchanges`` has made, in this network namespace or in that of ``channel``.

    Raises:
        OSError: errno, the kernel's words, and what it was about.
    """
    with channel or rt.open_socket() as netlink:
        rt.converse(netlink, message)


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


def _inner_requests(attachment: Attachment | PlainAttachment) -> tuple[rt.Request, ...]:
    link = attachment.inner_link
    requests = [_up(_INDEX_MARK, link), _address(attachment.address, attachment.prefix_length, _INDEX_MARK, link)]
    if attachment.gateway:
        requests.append(default_route(attachment.gateway, _INDEX_MARK))
    if attachment.address6:
        requests.append(_address(attachment.address6, attachment.prefix6_length, _INDEX_MARK, link))
    if attachment.gateway6:
        requests.append(default_route(attachment.gateway6, _INDEX_MARK))
    return tuple(requests)


def _up(index: int, name: str) -> rt.Request:
    body = rt.ifinfomsg(index=index, flags=rt.IFF_UP, change=rt.IFF_UP)
    return rt.Request(rt.RTM_SETLINK, _CHANGE, body, f"link {name}")
