"""How the engine and its spawner talk: marshalled tuples, one a packet, descriptors beside them.

Both ends are the same interpreter of the same installation, so marshal, which is fast and needs no import, is safe.
Each request brings a pipe of its own for the answers to it: no two threads wait for each other, and the spawner's
death is the end of every pipe.
"""

from __future__ import annotations

import marshal
import os
import struct

from lab.linux import sockets

LENGTH = struct.Struct("=I")
MAX_DESCRIPTORS = 17
SOCKET_NAME = "spawner.sock"
LOCK_NAME = "spawner.lock"
IDENTITY_NAME = "spawner.version"
PACKET_BYTES = 128 * 1024  # below the socket's own limit (net.core.wmem_default, 208 KiB)
MAX_MESSAGE_BYTES = 4 << 20  # twice of what the kernel takes as arguments and environment
_BESIDE = b"m"  # the packet of a longer message: what it says is in the file that is its last descriptor
_DESCRIPTOR = struct.Struct("=i")
_MSG_CMSG_CLOEXEC, _MSG_CTRUNC = 0x40000000, 0x8
_EMFILE, _EPIPE, _EMSGSIZE = 24, 32, 90

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = tuple[Any, ...]  # Any: what a message holds is said where its kind is defined, in spawner.py


FULL = ("ask the spawner", _EMFILE, "it has as many files open as it may", "")
"""The failure of a request for which the spawner has no descriptors left."""


def send(channel: sockets.Plain, message: Message, descriptors: tuple[int, ...]) -> None:
    """Send a message with descriptors as one packet; a long message lies in a file in memory that goes with it.

    Raises:
        OSError: with errno; EPIPE when the other end is gone, EMSGSIZE above ``MAX_MESSAGE_BYTES``.
    """
    data = marshal.dumps(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise OSError(_EMSGSIZE, os.strerror(_EMSGSIZE))
    if len(data) <= PACKET_BYTES:
        _send(channel, data, descriptors)
        return
    beside = os.memfd_create("lab-message")
    try:
        with open(beside, "wb", closefd=False) as file:
            file.write(data)
        _send(channel, _BESIDE, (*descriptors, beside))
    finally:
        os.close(beside)


def _send(channel: sockets.Plain, data: bytes, descriptors: tuple[int, ...]) -> None:
    rights = b"".join(_DESCRIPTOR.pack(descriptor) for descriptor in descriptors)
    ancillary = [(sockets.SOL_SOCKET, sockets.SCM_RIGHTS, rights)] if descriptors else []
    channel.sendmsg([data], ancillary)


def receive(channel: sockets.Plain, buffer: bytearray) -> tuple[Message | None, tuple[int, ...]] | None:
    """Return the next message and its descriptors (closed on exec), or None when the other end is gone.

    The message is None if not all of its descriptors could come, as this process has too many open already.
    ``buffer`` has ``PACKET_BYTES`` and is the caller's to use again.
    """
    space = sockets.CMSG_SPACE(MAX_DESCRIPTORS * _DESCRIPTOR.size)
    size, ancillary, flags, _ = channel.recvmsg_into([buffer], space, _MSG_CMSG_CLOEXEC)
    if not size:
        return None
    descriptors = tuple(number for _, _, data in ancillary for (number,) in _DESCRIPTOR.iter_unpack(data))
    if flags & _MSG_CTRUNC:
        return None, descriptors
    if buffer[:size] != _BESIDE:
        return marshal.loads(memoryview(buffer)[:size]), descriptors
    *others, beside = descriptors
    try:
        return marshal.loads(os.pread(beside, MAX_MESSAGE_BYTES, 0)), tuple(others)
    finally:
        os.close(beside)


def refuse(channel: sockets.Plain) -> None:
    """Tell one who has just connected, and whose requests cannot be read, that this process is full."""
    try:
        channel.sendmsg([marshal.dumps(FULL)], [], sockets.MSG_DONTWAIT)
    except OSError:  # it has gone
        return


def refusal(channel: sockets.Plain) -> Message | None:
    """Return why the other end has closed a connection; None if it was not ``refuse`` that did."""
    for _ in range(2):  # that it has not read what we sent comes first, once
        try:
            data = channel.recv(PACKET_BYTES, sockets.MSG_DONTWAIT)
        except ConnectionResetError:
            continue
        except OSError:  # nothing has come, or it is closed on our side as well
            return None
        found: Message | None = marshal.loads(data) if data else None
        return found
    return None


def answer(descriptor: int, message: Message) -> bool:
    """Write an answer into a request's pipe; return False if nobody reads it any more."""
    payload = marshal.dumps(message)
    try:
        os.write(descriptor, LENGTH.pack(len(payload)) + payload)  # under PIPE_BUF, so it is written whole
    except OSError as error:
        if error.errno != _EPIPE:
            raise
        return False
    return True


def parse(buffer: bytearray) -> Message | None:
    """Take the first whole answer off a buffer and return it, or None when there is none yet."""
    if len(buffer) < LENGTH.size:
        return None
    end = LENGTH.size + LENGTH.unpack_from(buffer)[0]
    if len(buffer) < end:
        return None
    message: Message = marshal.loads(buffer[LENGTH.size : end])
    del buffer[:end]
    return message
