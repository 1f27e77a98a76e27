"""Pipes: looking at what is in one without taking it out. Source: man tee(2)."""

from __future__ import annotations

from lab.linux import libc

_SPLICE_F_NONBLOCK = 2


def tee(source: int, target: int, size_bytes: int) -> int:
    """Give the pipe ``target`` what is in the pipe ``source`` as well, and return how much; 0 at the end of ``source``.

    Raises:
        OSError: EAGAIN if there is nothing now, or no room; EINVAL if one is no pipe.
    """
    return libc.syscall("tee", source, target, size_bytes, _SPLICE_F_NONBLOCK)
