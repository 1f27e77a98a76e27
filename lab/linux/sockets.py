"""Sockets without the library's ``socket`` module, whose enumerations cost a lean process a megabyte of its own.

Source: man unix(7), cmsg(3), recvmsg(2).
"""

from __future__ import annotations

import _socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    Plain = _socket.socket
    """Any socket: the library's own class is one as well."""

AF_INET, AF_NETLINK, AF_UNIX, AF_UNSPEC = _socket.AF_INET, _socket.AF_NETLINK, _socket.AF_UNIX, _socket.AF_UNSPEC
AF_INET6, IPPROTO_IPV6, IPV6_V6ONLY = _socket.AF_INET6, _socket.IPPROTO_IPV6, _socket.IPV6_V6ONLY
CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET = _socket.CMSG_SPACE, _socket.SCM_RIGHTS, _socket.SOL_SOCKET
MSG_CMSG_CLOEXEC, MSG_DONTWAIT, MSG_PEEK = _socket.MSG_CMSG_CLOEXEC, _socket.MSG_DONTWAIT, _socket.MSG_PEEK
NETLINK_ROUTE = _socket.NETLINK_ROUTE
SOCK_CLOEXEC, SOCK_DGRAM = _socket.SOCK_CLOEXEC, _socket.SOCK_DGRAM
SHUT_RD = _socket.SHUT_RD
SO_PEERCRED, SO_REUSEADDR, SOCK_STREAM = _socket.SO_PEERCRED, _socket.SO_REUSEADDR, _socket.SOCK_STREAM
SOCK_RAW, SOCK_SEQPACKET = _socket.SOCK_RAW, _socket.SOCK_SEQPACKET
inet_aton, inet_pton = _socket.inet_aton, _socket.inet_pton
_DESCRIPTOR = struct.Struct("=i")


class Socket(_socket.socket):
    """A socket that closes at the end of a ``with`` block."""

    def __enter__(self) -> Socket:
        """Return the socket itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def accept(listener: Plain) -> Socket:
    """Return the next connection, closed on exec.

    Raises:
        BlockingIOError: there is none now, and the listener does not wait.
    """
    descriptor, _ = listener._accept()  # type: ignore[attr-defined]  # which typeshed does not know
    return Socket(fileno=descriptor)


def pair(kind: int) -> tuple[Socket, Socket]:
    """Return two connected unix sockets of a kind, closed on exec."""
    ours, theirs = _socket.socketpair(AF_UNIX, kind)
    return Socket(fileno=ours.detach()), Socket(fileno=theirs.detach())


def send_descriptors(channel: Plain, data: bytes, descriptors: tuple[int, ...]) -> None:
    """Send one message with descriptors."""
    rights = b"".join(_DESCRIPTOR.pack(descriptor) for descriptor in descriptors)
    channel.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, rights)])


def receive_descriptors(channel: Plain, size_bytes: int, count: int, flags: int = 0) -> tuple[bytes, tuple[int, ...]]:
    """Return one message and its descriptors, at most ``count``, closed on exec.

    Raises:
        BlockingIOError: there is none now, and ``flags`` have MSG_DONTWAIT.
    """
    space = CMSG_SPACE(count * _DESCRIPTOR.size)
    data, ancillary, _, _ = channel.recvmsg(size_bytes, space, flags | MSG_CMSG_CLOEXEC)
    return data, tuple(number for _, _, rights in ancillary for (number,) in _DESCRIPTOR.iter_unpack(rights))
