"""Files that survive a kill at any instant: whole or not at all, and one writer at a time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


def write_atomically(path: str, data: bytes, *, mode: int = 0o644) -> None:
    """Replace the file at ``path`` by ``data``: readers see the old bytes or the new ones, also after a power loss.

    Raises:
        OSError: it could not be written; the old file is still there.
    """
    _replace(path, data, mode, os.fsync)
    sync_directory(os.path.dirname(path))


def write_whole(path: str, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``: readers see the old bytes or the new ones, after a power loss anything.

    For what can be found out again; nothing waits for the disk.

    Raises:
        OSError: it could not be written; the old file is still there.
    """
    _replace(path, data, 0o644, lambda _: None)


def _replace(path: str, data: bytes, mode: int, settle: Callable[[int], None]) -> None:
    temporary = f"{path}.{os.getpid()}.new"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            settle(file.fileno())
        os.rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def sync_directory(path: str) -> None:
    """Make the names in the directory at ``path`` durable. Source: fsync(2)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold the lock file at ``path`` alone for the block, waiting for others; the kernel frees it if we die."""
    with _lock_file(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextmanager
def shared(path: str) -> Iterator[None]:
    """Hold the lock file at ``path`` together with other sharers for the block."""
    with _lock_file(path) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield


@contextmanager
def locked_if_free(path: str) -> Iterator[bool]:
    """Hold the lock file at ``path`` alone for the block and give True, or give False at once if it is held."""
    with _lock_file(path) as descriptor:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextmanager
def _lock_file(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
