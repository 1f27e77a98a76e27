"""Being told of changes in directories: inotify, as a descriptor that can be polled.

Source: man inotify(7); constants from the kernel's include/uapi/linux/inotify.h.
"""

from __future__ import annotations

import os
import select
import struct
from dataclasses import dataclass

from lab.linux.libc import syscall

IN_MODIFY = 0x2
IN_MOVED_FROM = 0x40
IN_MOVED_TO = 0x80
IN_CREATE = 0x100
IN_DELETE = 0x200
IN_DELETE_SELF = 0x400
IN_MOVE_SELF = 0x800
IN_ONLYDIR = 0x1000000

_HEAD = struct.Struct("=iIII")  # watch, mask, cookie, length of the name
_BUFFER_BYTES = 65536
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One event: what happened (bits of ``mask``) to the entry ``name`` of a watched directory, or to itself ("")."""

    mask: int
    name: str


class Watch:
    """One inotify instance, to be used in a ``with`` block."""

    def __init__(self) -> None:
        """Watch nothing yet.

        Raises:
            OSError: EMFILE when the user has too many of them.
        """
        self._descriptor = syscall("inotify_init1", os.O_CLOEXEC | os.O_NONBLOCK, path="inotify")

    def __enter__(self) -> Watch:
        """Return the instance itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop watching."""
        os.close(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when something has changed."""
        return self._descriptor

    def add(self, directory: str, mask: int) -> None:
        """Watch a directory for the events in ``mask``.

        Raises:
            OSError: with errno and path.
        """
        syscall("inotify_add_watch", self._descriptor, os.fsencode(directory), mask, path=directory)

    def read(self) -> tuple[Change, ...]:
        """Return what has changed since the last call, without waiting."""
        try:
            data = os.read(self._descriptor, _BUFFER_BYTES)
        except BlockingIOError:
            return ()
        return parse(data)

    def wait(self, timeout_ns: int | None, *others: int) -> frozenset[int]:
        """Wait until something has changed or one of ``others`` is readable, and return which are; none: timeout."""
        poll = select.poll()
        for descriptor in (self._descriptor, *others):
            poll.register(descriptor, select.POLLIN)
        ready = poll.poll(None if timeout_ns is None else max(0, timeout_ns) / _NS_PER_MS)
        return frozenset(descriptor for descriptor, _ in ready)


def parse(data: bytes) -> tuple[Change, ...]:
    """Return the events in what was read from an inotify descriptor."""
    found, offset = [], 0
    while offset < len(data):
        _, mask, _, length = _HEAD.unpack_from(data, offset)
        offset += _HEAD.size
        name = data[offset : offset + length].rstrip(b"\0")
        offset += length
        found.append(Change(mask=mask, name=os.fsdecode(name)))
    return tuple(found)
