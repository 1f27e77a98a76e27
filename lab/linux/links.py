"""Links of this process's network namespace, by name; sysfs shows those of the namespace in which it was mounted.

Source: man netdevice(7).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from lab.linux import sockets

_SIOCGIFFLAGS, _SIOCGIFINDEX = 0x8913, 0x8933
_NAME_BYTES = 15  # IFNAMSIZ without the final zero
_IFREQ = struct.Struct("=16si20x")


def index(name: str) -> int:
    """Return a link's index.

    Raises:
        OSError: with the link's name: ENODEV (there is none), EMFILE.
    """
    return _ask(name, _SIOCGIFINDEX)


def flags(name: str) -> int:
    """Return a link's flags.

    Raises:
        OSError: with the link's name: ENODEV (there is none), EMFILE.
    """
    return _ask(name, _SIOCGIFFLAGS) & 0xFFFF  # the kernel writes a short


def exists(name: str) -> bool:
    """Return whether there is a link of this name.

    Raises:
        OSError: it cannot be asked (EMFILE).
    """
    try:
        index(name)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return False
    return True


def _ask(name: str, request: int) -> int:
    encoded = name.encode()
    if len(encoded) > _NAME_BYTES:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), name)
    try:
        with sockets.Socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_CLOEXEC) as channel:
            answer = fcntl.ioctl(channel, request, _IFREQ.pack(encoded, 0))
    except OSError as error:
        raise OSError(error.errno, error.strerror, name) from None
    return int(_IFREQ.unpack(answer)[1])
