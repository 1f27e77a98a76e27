"""How much a tree of files holds, and how much of the disk it takes; nothing is changed."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from lab.container.storage.walk import walk

BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's


def content_bytes(directory: str) -> int:
    """Return the bytes of all files and the targets of links below ``directory``, which docker calls its size.

    Hard links count once, holes as if they were written.
    """
    return sum(status.st_size for status in _once(directory) if not stat.S_ISDIR(status.st_mode))


def used_bytes(directory: str) -> int:
    """Return the bytes of the disk that ``directory`` and what is below it take, hard links counted once."""
    return sum(status.st_blocks * BLOCK_BYTES for status in _once(directory))


def _once(directory: str) -> Iterator[os.stat_result]:
    seen: set[tuple[int, int]] = set()
    if not os.path.lexists(directory):  # it is in use, and was removed meanwhile
        return
    for entry in walk(directory):
        key = (entry.status.st_dev, entry.status.st_ino)
        if entry.status.st_nlink == 1 or key not in seen:
            yield entry.status
            seen.add(key)
