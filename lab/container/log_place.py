"""A place in a container's log, which who is attached remembers: what has not come to it is in the log from there."""

from __future__ import annotations

import os

from lab.container import log_file


class Place:
    """A place in a log that is written on: a file of it, held open, and how much of that lies before; to be closed."""

    def __init__(self, bundle: str, offset_bytes: int) -> None:
        """Hold the last file of the log of the container in this directory.

        Raises:
            FileNotFoundError: it has no log.
        """
        self.file = os.open(os.path.join(bundle, log_file.LOG_FILE), os.O_RDONLY | os.O_CLOEXEC)
        self.offset_bytes = offset_bytes

    def close(self) -> None:
        """Let the file go."""
        os.close(self.file)


def size_bytes(bundle: str) -> int:
    """Return how long the last file of a log is, 0 if there is none."""
    try:
        return os.stat(os.path.join(bundle, log_file.LOG_FILE)).st_size
    except FileNotFoundError:
        return 0
