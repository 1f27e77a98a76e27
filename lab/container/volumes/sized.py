"""A volume with a size: a file that holds an ext4 of that size, and takes of the disk what is in it.

Its journal makes it whole again after a crash of the machine, when it is mounted next.
Source: man mke2fs(8), debugfs(8).
"""

from __future__ import annotations

import os

from lab.errors import ContainerError, UnavailableError
from lab.linux import command

_TIMEOUT_S = 120
_BYTES_PER_INODE = 16384
_MAKE = ("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-i", str(_BYTES_PER_INODE))
_EMPTY = ("debugfs", "-w", "-R", "rmdir lost+found")
_PATH = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}


def make(path: str, size_bytes: int) -> None:
    """Make a file of ``size_bytes`` with an empty ext4 in it, without lost+found: an empty volume has nothing.

    Raises:
        UnavailableError: this host has no mkfs.ext4.
        ContainerError: it failed.
        OSError: the file could not be made: with errno and path.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.truncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)
    for argv in (_MAKE, _EMPTY):
        try:
            done = command.run((*argv, path), timeout_s=_TIMEOUT_S, env=_PATH)
        except FileNotFoundError as error:
            raise UnavailableError(
                f"a volume with a size needs {argv[0]}, which is not there", hint="apt install e2fsprogs"
            ) from error
        if done.exit_code:
            raise ContainerError(f"{argv[0]} {path}: {done.error_text or f'exit code {done.exit_code}'}")
