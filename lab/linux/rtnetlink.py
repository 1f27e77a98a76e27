"""rtnetlink(7) messages and their exchange: only ``socket`` and ``struct``, since it runs between fork and exec.

Not for managing networks at leisure (that is pyroute2's work, in ``container/network/apply.py``): an import of
pyroute2 costs 200 ms, a start of a container 5.
"""

from __future__ import annotations

import os
import struct

from lab.linux import sockets

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs milliseconds on the container start path
    from collections.abc import Sequence

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_SETLINK = 19
RTM_NEWADDR = 20
RTM_NEWROUTE = 24
RTM_NEWNEIGH = 28

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLMSG_ERROR = 2

IFF_UP = 0x1
IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_NET_NS_FD = 28
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
IFLA_INFO_SLAVE_KIND = 4
IFLA_INFO_SLAVE_DATA = 5
IFLA_BRPORT_MODE = 4
IFLA_BRPORT_ISOLATED = 33
VETH_INFO_PEER = 1
IFA_F_NODAD = 0x02
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
RTA_OIF = 4
RTA_GATEWAY = 5
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RTN_UNICAST = 1
NDA_DST = 1
NDA_LLADDR = 2
NUD_PERMANENT = 0x80

_SOL_NETLINK = 270
_NETLINK_CAP_ACK = 10
_NETLINK_EXT_ACK = 11
_NLM_F_ACK_TLVS = 0x200
_NLMSGERR_ATTR_MSG = 1
_RECEIVE_BYTES = 65536
_EXCHANGE = struct.Struct("=IHHI")

_NLMSGHDR = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_RTATTR = struct.Struct("=HH")  # length, type
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst len, src len, tos, table, protocol, scope, type, flags


class Request:
    """One message to the kernel; ``subject`` is what an error names: "link lab0"."""

    __slots__ = ("body", "flags", "kind", "subject")

    def __init__(self, kind: int, flags: int, body: bytes, subject: str) -> None:
        self.kind = kind
        self.flags = flags
        self.body = body
        self.subject = subject


def attribute(kind: int, payload: bytes) -> bytes:
    """Return one routing attribute, padded to four bytes as the kernel wants it."""
    return _RTATTR.pack(_RTATTR.size + len(payload), kind) + payload + b"\0" * (-len(payload) % 4)


def text(value: str) -> bytes:
    """Return a name as the kernel reads it: with a final zero byte."""
    return value.encode() + b"\0"


def number(value: int) -> bytes:
    """Return an unsigned 32-bit number in host order."""
    return struct.pack("=I", value)


def ifinfomsg(*, index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    """Return the head of a link message; index 0 means that a name attribute follows."""
    return _IFINFOMSG.pack(sockets.AF_UNSPEC, 0, index, flags, change)


def ifaddrmsg(*, prefix_length: int, index: int, family: int = sockets.AF_INET, flags: int = 0) -> bytes:
    """Return the head of an address message of universal scope."""
    return _IFADDRMSG.pack(family, prefix_length, flags, RT_SCOPE_UNIVERSE, index)


def rtmsg(*, family: int = sockets.AF_INET) -> bytes:
    """Return the head of a default route in the main table."""
    return _RTMSG.pack(family, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0)


def ndmsg(*, index: int, state: int) -> bytes:
    """Return the head of an IPv4 neighbour message."""
    return _NDMSG.pack(sockets.AF_INET, index, state, 0, 0)


def open_socket() -> sockets.Socket:
    """Return a socket to the rtnetlink of the caller's network namespace; it stays there whoever uses it.

    Raises:
        OSError: the kernel gives none.
    """
    channel = sockets.Socket(sockets.AF_NETLINK, sockets.SOCK_RAW | sockets.SOCK_CLOEXEC, sockets.NETLINK_ROUTE)
    channel.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
    channel.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    return channel


def transact(channel: sockets.Socket, requests: Sequence[Request]) -> None:
    """Send all requests as one batch and read an acknowledgement for each.

    Raises:
        OSError: as ``converse`` says.
    """
    converse(channel, pack_exchange(requests))


def link_question(name: str) -> Request:
    """Return the question for a link of a name, which is answered by the link or an error."""
    return Request(RTM_GETLINK, NLM_F_REQUEST, ifinfomsg() + attribute(IFLA_IFNAME, text(name)), f"link {name}")


def link_index(channel: sockets.Socket, name: str) -> int:
    """Return the index of link ``name`` in the namespace of ``channel``.

    Raises:
        OSError: there is no such link (ENODEV).
    """
    return converse(channel, pack_exchange((link_question(name),)))


def pack_exchange(requests: Sequence[Request], *, index_mark: int = 0) -> bytes:
    """Return an exchange as plain memory: a batch to be sent, each request of which has one answer.

    A link among the answers makes its index known, which in the next exchange takes the place of every ``index_mark``.
    Layout: bytes of the batch, number of answers, number of places (offsets into the batch), bytes of the subjects;
    places, padded to four bytes; batch; subjects, each ended by NUL.
    """
    batch = b"".join(_encode(request, sequence) for sequence, request in enumerate(requests))
    mark = number(index_mark)
    places = [at for at in range(0, len(batch), 4) if index_mark and batch[at : at + 4] == mark]
    subjects = b"".join(request.subject.encode() + b"\0" for request in requests)
    head = _EXCHANGE.pack(len(batch), len(requests), len(places), len(subjects))
    listed = struct.pack(f"={len(places)}H", *places)
    return head + listed + bytes(-len(listed) % 4) + batch + subjects


def converse(channel: sockets.Socket, exchanges: bytes) -> int:
    """Carry out packed exchanges in order, and return the index of the last link that was an answer; 0 for none.

    The kernel goes on after a request that fails, so the first error is raised after the whole batch was answered.

    Raises:
        OSError: errno, the kernel's own words where it has any, and the subject of the request as file name.
    """
    offset = index = 0
    while offset < len(exchanges):
        size, answers, count, subjects_size = _EXCHANGE.unpack_from(exchanges, offset)
        places = struct.unpack_from(f"={count}H", exchanges, offset + _EXCHANGE.size)
        start = offset + _EXCHANGE.size + ((2 * count + 3) & ~3)
        batch = bytearray(exchanges[start : start + size])
        for place in places:
            struct.pack_into("=I", batch, place, index)
        offset = start + size + subjects_size
        index = _exchange(channel, batch, answers, exchanges[start + size : offset].split(b"\0")) or index
    return index


def _exchange(channel: sockets.Socket, batch: bytearray, waiting: int, subjects: list[bytes]) -> int:
    channel.send(batch)
    errors: list[OSError] = []
    index = 0
    while waiting:
        for kind, flags, sequence, payload in _messages(channel.recv(_RECEIVE_BYTES)):
            if kind == RTM_NEWLINK:
                waiting -= 1
                index = _IFINFOMSG.unpack_from(payload)[2]
            elif kind == NLMSG_ERROR:
                waiting -= 1
                errors += _error(payload, flags, subjects[sequence].decode())
    if errors:
        raise errors[0]
    return index


def _encode(request: Request, sequence: int) -> bytes:
    return _NLMSGHDR.pack(_NLMSGHDR.size + len(request.body), request.kind, request.flags, sequence, 0) + request.body


def _messages(data: bytes) -> list[tuple[int, int, int, bytes]]:
    found = []
    offset = 0
    while offset < len(data):
        length, kind, flags, sequence, _ = _NLMSGHDR.unpack_from(data, offset)
        found.append((kind, flags, sequence, data[offset + _NLMSGHDR.size : offset + length]))
        offset += (length + 3) & ~3
    return found


def _error(payload: bytes, flags: int, subject: str) -> list[OSError]:
    (code,) = struct.unpack_from("=i", payload)
    if code == 0:
        return []
    words = _extended(payload[4 + _NLMSGHDR.size :]) if flags & _NLM_F_ACK_TLVS else ""
    reason = os.strerror(-code) + (f" ({words})" if words else "")
    return [OSError(-code, reason, subject)]


def _extended(attributes: bytes) -> str:
    offset = 0
    while offset + _RTATTR.size <= len(attributes):
        length, kind = _RTATTR.unpack_from(attributes, offset)
        if kind == _NLMSGERR_ATTR_MSG:
            return attributes[offset + _RTATTR.size : offset + length].rstrip(b"\0").decode(errors="replace")
        offset += max((length + 3) & ~3, _RTATTR.size)
    return ""
