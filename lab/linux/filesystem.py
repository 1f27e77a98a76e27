"""Whole file systems: syncfs(2)."""

from __future__ import annotations

import os

from lab.linux.libc import syscall


def syncfs(path: str) -> None:
    """Write what is dirty on the file system of ``path``, an existing directory, to its disk.

    Raises:
        OSError: with errno and ``path``.
    Source: man syncfs(2).
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscall("syncfs", descriptor, path=path)
    finally:
        os.close(descriptor)
