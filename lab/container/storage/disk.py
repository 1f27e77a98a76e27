"""How much a tree of files holds, and how much of the disk it takes; nothing is changed."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator

_BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's


def content_bytes(directory: str) -> int:
    """Return the bytes of all files and the targets of links below ``directory``, which docker calls its size.

    Hard links count once, holes as if they were written.
    """
    return sum(status.st_size for status in _once(directory) if not stat.S_ISDIR(status.st_mode))


def used_bytes(directory: str) -> int:
    """Return the bytes of the disk that ``directory`` and what is below it take, hard links counted once."""
    return sum(status.st_blocks * _BLOCK_BYTES for status in _once(directory))


def _once(directory: str) -> Iterator[os.stat_result]:
    seen: set[tuple[int, int]] = set()
    for status in _statuses(directory):
        key = (status.st_dev, status.st_ino)
        if status.st_nlink == 1 or key not in seen:
            yield status
            seen.add(key)


def _statuses(directory: str) -> Iterator[os.stat_result]:
    try:
        yield os.lstat(directory)
        entries = list(os.scandir(directory))
    except FileNotFoundError:  # it is in use, and was removed meanwhile
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _statuses(entry.path)
            continue
        with contextlib.suppress(FileNotFoundError):
            yield entry.stat(follow_symlinks=False)
