"""What a container has changed in its files, read from overlay's upper directory.

Whiteouts and opaque directories are overlay's (kernel Documentation/filesystems/overlayfs.rst), what is told of them is
what ``docker diff`` tells.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

from lab.container.storage.pack import OPAQUE_XATTR
from lab.container.storage.walk import DIRECTORY, Entry, open_below, walk

_LAST = "\U0010ffff"  # behind all characters of names


class ChangeKind(StrEnum):
    """What happened to a path; the value is docker's letter."""

    MODIFIED = "C"
    ADDED = "A"
    DELETED = "D"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One changed path, as the container sees it: "/etc/hosts"."""

    kind: ChangeKind
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Below:
    """What a directory covers: descriptors of the layers that are seen through each other there, topmost first.

    With ``hidden`` nothing of them shows through.
    """

    layers: tuple[int, ...] = ()
    hidden: bool = False


def changes(upper: str, lower: Sequence[str]) -> tuple[Change, ...]:
    """Return what ``upper`` changes in the layers ``lower`` (topmost first), each directory before what is in it.

    In a directory what is deleted comes last, as from docker. A directory is modified when its own attributes differ
    or something below it is told; of one that was removed and made again, what is in it no longer is told as deleted.

    Raises:
        OSError: a directory cannot be read.
    """
    found: dict[str, Change] = {}
    with ExitStack() as stack:
        layers = tuple(_opened(layer, stack) for layer in lower)
        to_come = {"": _Below(layers=layers)}  # by the path of the directory
        for entry in walk(upper):
            if entry.is_directory:
                for change in _in_directory(entry, to_come.pop(entry.path, _Below()), to_come):
                    found[change.path] = change
    for path in tuple(found):
        while (path := os.path.dirname(path)) != "/" and path not in found:
            found[path] = Change(kind=ChangeKind.MODIFIED, path=path)
    return tuple(sorted(found.values(), key=_place))


def _opened(layer: str, stack: ExitStack) -> int:
    descriptor = os.open(layer, DIRECTORY)
    stack.callback(os.close, descriptor)
    return descriptor


def _place(change: Change) -> str:
    """Return what sorts a change behind its directory, and before what else is in the one above."""
    directory, _, name = change.path.rpartition("/")
    last = _LAST if change.kind is ChangeKind.DELETED else ""
    return f"{directory}/{last}{name}".replace("/", "\0")  # which is no part of a name, and before all that is


def _in_directory(directory: Entry, below: _Below, to_come: dict[str, _Below]) -> Iterator[Change]:
    """Give the changes of the entries of one directory, and note for the directories among them what they cover."""
    with ExitStack() as stack:
        layers = {layer: _inside(layer, directory.path, stack) for layer in below.layers}
        hidden = below.hidden or _is_opaque(directory.descriptor)
        there = os.listdir(directory.descriptor)
        for name in there:
            found = _look(directory.descriptor, name)
            if found is None:  # removed meanwhile
                continue
            path = f"{directory.path}/{name}" if directory.path else name
            kind = _kind(found, _before(name, layers.values()))
            if kind is not None:
                yield Change(kind=kind, path=f"/{path}")
            if stat.S_ISDIR(found.status.st_mode):
                to_come[path] = _Below(layers=tuple(_merged(name, layers)), hidden=hidden)
        if hidden:
            gone = _names(layers.values()).difference(there)
            yield from (Change(kind=ChangeKind.DELETED, path=f"/{directory.path}/{name}") for name in gone)


def _inside(layer: int, path: str, stack: ExitStack) -> int:
    descriptor = open_below(layer, path)
    stack.callback(os.close, descriptor)
    return descriptor


def _names(layers: Collection[int]) -> set[str]:
    """Return the names that the layers' directories show."""
    names = {name for directory in layers for name in os.listdir(directory)}
    return {name for name in names if _before(name, layers) is not None}


def _before(name: str, layers: Collection[int]) -> Entry | None:
    """Return what the layers show as ``name``; None for nothing, or a whiteout."""
    for directory in layers:
        found = _look(directory, name)
        if found is not None:
            return None if _is_whiteout(found.status) else found
    return None


def _merged(name: str, layers: Mapping[int, int]) -> Iterator[int]:
    """Give the layers whose directories ``name`` are seen through each other, topmost first."""
    for layer, directory in layers.items():
        found = _look(directory, name)
        if found is None:
            continue
        if not stat.S_ISDIR(found.status.st_mode):
            return
        yield layer
        with ExitStack() as stack:
            if _is_opaque(_inside(directory, name, stack)):
                return


def _look(directory: int, name: str) -> Entry | None:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return Entry(path=name, name=name, parent=directory, status=status)


def _kind(found: Entry, before: Entry | None) -> ChangeKind | None:
    if _is_whiteout(found.status):
        return ChangeKind.DELETED
    if before is None:
        return ChangeKind.ADDED
    same = _compared(found.status) == _compared(before.status) and _capability(found) == _capability(before)
    return None if same else ChangeKind.MODIFIED


def _compared(status: os.stat_result) -> tuple[int, ...]:
    """Return what docker compares; of a directory neither length nor time, which tell of its entries."""
    owner = (status.st_mode, status.st_uid, status.st_gid, status.st_rdev)
    return owner if stat.S_ISDIR(status.st_mode) else (*owner, status.st_mtime_ns, status.st_size)


def _capability(found: Entry) -> bytes:
    if not stat.S_ISREG(found.status.st_mode):
        return b""
    descriptor = found.open()
    try:
        return os.getxattr(descriptor, "security.capability")
    except OSError:  # no such attribute, or none at all on this file system
        return b""
    finally:
        os.close(descriptor)


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(descriptor: int) -> bool:
    try:
        return os.getxattr(descriptor, OPAQUE_XATTR) == b"y"
    except OSError:  # no such attribute, or none at all on this file system
        return False
