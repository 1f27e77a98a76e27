"""openat2: open a path whose resolution the kernel confines. Source: man openat2(2)."""

from __future__ import annotations

import os
import struct

from lab.linux.libc import syscall

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10


def openat2(directory_fd: int, path: str, flags: int, mode: int, resolve: int) -> int:
    """Return a descriptor of ``path`` as seen from ``directory_fd``; ``resolve`` are RESOLVE_*.

    With RESOLVE_IN_ROOT the directory is the root: absolute links and ".." end there.

    Raises:
        OSError: with errno and ``path``.
    """
    how = struct.pack("=QQQ", flags, mode, resolve)
    return syscall("openat2", directory_fd, os.fsencode(path), how, len(how), path=path)
