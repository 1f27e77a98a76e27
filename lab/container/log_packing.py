"""Files of a log that have been put away, compressed: ``container.log.1`` becomes ``container.log.1.gz``.

A file and its compressed form have the same time of change: so who still reads the one knows the other again. Who is
killed amid this leaves both at most, of which the plain one counts, and what comes next does it again.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil

from lab.container import log_file

_PLAIN = re.compile(rf"{re.escape(log_file.LOG_FILE)}\.\d+")


def pack(bundle: str) -> None:
    """Compress what has been put away of the log of the container in this directory; one that has gone is no error.

    Raises:
        OSError: with errno and path, as on a full disk; what is not compressed stays as it is.
    """
    try:
        lock = log_file.lock_names(bundle, waits=True)
    except FileNotFoundError:
        return
    assert lock is not None
    try:
        for name in sorted(filter(_PLAIN.fullmatch, os.listdir(bundle))):
            _pack(os.path.join(bundle, name))
    finally:
        os.close(lock)


def _pack(path: str) -> None:
    temporary = f"{path}.new"
    try:
        with open(path, "rb") as source:
            with gzip.open(temporary, "wb") as target:
                shutil.copyfileobj(source, target)
            status = os.fstat(source.fileno())
        os.chmod(temporary, status.st_mode & 0o7777)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.replace(temporary, path + log_file.PACKED)
        os.unlink(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
