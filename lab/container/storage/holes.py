"""The holes of sparse files: which parts of a file hold data."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

from lab.container.storage.disk import BLOCK_BYTES


def has_holes(status: os.stat_result) -> bool:
    """Return whether a file takes less of the disk than its length says."""
    return status.st_blocks * BLOCK_BYTES < status.st_size


def data_parts(descriptor: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Give offset and length of each part of an open file that is no hole, within its first ``size_bytes``.

    Of a file that becomes shorter meanwhile, what is cut off counts as a hole. Source: man lseek(2), SEEK_DATA.
    """
    offset = 0
    while offset < size_bytes:
        try:
            begin = os.lseek(descriptor, offset, os.SEEK_DATA)
            offset = min(os.lseek(descriptor, begin, os.SEEK_HOLE), size_bytes)
        except OSError as error:
            if error.errno != errno.ENXIO:  # only a hole is left
                raise
            return
        if begin < size_bytes:
            yield begin, offset - begin
