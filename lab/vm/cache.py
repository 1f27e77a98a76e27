"""Files that are made once and kept: built under a temporary name, renamed when complete, guarded by a lock.

A process may be killed at any instant: what has its final name is whole, and a lock dies with its holder.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock that ``path`` names for the length of the block, waiting for it; its directory is made.

    Raises:
        OSError: the file cannot be made.
    """
    os.makedirs(os.path.dirname(path), exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_once(path: str, build: Callable[[str], None]) -> str:
    """Return ``path``, after ``build(temporary)`` has made it if it was not there; two processes build it once.

    ``temporary`` lies beside ``path`` and does not exist when ``build`` is called; it is removed if that fails.

    Raises:
        OSError: the file system refused.
    """
    if os.path.exists(path):
        return path
    with locked(path + ".lock"):
        if not os.path.exists(path):
            _build(path, build)
    return path


def _build(path: str, build: Callable[[str], None]) -> None:
    temporary = path + ".new"
    remove(temporary)  # of a builder that was killed
    try:
        build(temporary)
        os.rename(temporary, path)
    finally:
        remove(temporary)


def remove(path: str) -> None:
    """Remove a file or directory tree; one that is not there is no error."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def write_file(path: str, content: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that readers see all of it or none."""
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    os.rename(temporary, path)


def digest_of_file(path: str) -> str:
    """Return "sha256:…" of a file's bytes."""
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
