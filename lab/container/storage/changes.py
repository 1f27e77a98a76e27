"""What a container has changed in its files, read from overlay's upper directory.

Whiteouts and opaque directories are overlay's (kernel Documentation/filesystems/overlayfs.rst), what is told of them is
what ``docker diff`` tells.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lab.container.storage.pack import OPAQUE_XATTR


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


def changes(upper: str, lower: Sequence[str]) -> tuple[Change, ...]:
    """Return what ``upper`` changes in the layers ``lower`` (topmost first), sorted by path.

    A directory is modified when its own attributes differ or something below it is told; of one that was removed and
    made again, what is in it no longer is told as deleted.

    Raises:
        OSError: a directory cannot be read.
    """
    found = {change.path: change for change in _below(upper, "", lower, hides=False)}
    for path in tuple(found):
        while (path := os.path.dirname(path)) != "/":
            found.setdefault(path, Change(kind=ChangeKind.MODIFIED, path=path))
    return tuple(found[path] for path in sorted(found))


def _below(upper: str, path: str, lower: Sequence[str], *, hides: bool) -> Iterator[Change]:
    """Give the changes in the directory ``upper``; ``lower`` are the layers' directories that it covers.

    With ``hides`` nothing of those shows through.
    """
    entries = sorted(os.scandir(upper), key=lambda entry: entry.name)
    for entry in entries:
        status = entry.stat(follow_symlinks=False)
        kind = _kind(status, _before(entry.name, lower))
        if kind is not None:
            yield Change(kind=kind, path=f"{path}/{entry.name}")
        if stat.S_ISDIR(status.st_mode):
            covered = _merged(entry.name, lower)
            yield from _below(entry.path, f"{path}/{entry.name}", covered, hides=hides or _is_opaque(entry.path))
    if hides:
        there = {entry.name for entry in entries}
        yield from (Change(kind=ChangeKind.DELETED, path=f"{path}/{name}") for name in _names(lower) - there)


def _names(lower: Sequence[str]) -> set[str]:
    """Return the names that the layers' directories show."""
    names = {name for directory in lower for name in os.listdir(directory)}
    return {name for name in names if _before(name, lower) is not None}


def _before(name: str, lower: Sequence[str]) -> os.stat_result | None:
    """Return what the layers show as ``name``; None for nothing, or a whiteout."""
    for directory in lower:
        status = _status(directory, name)
        if status is not None:
            return None if _is_whiteout(status) else status
    return None


def _merged(name: str, lower: Sequence[str]) -> tuple[str, ...]:
    """Return the layers' directories ``name`` that are seen through each other, topmost first."""
    found = []
    for directory in lower:
        status = _status(directory, name)
        if status is None:
            continue
        if not stat.S_ISDIR(status.st_mode):
            break
        found.append(os.path.join(directory, name))
        if _is_opaque(found[-1]):
            break
    return tuple(found)


def _status(directory: str, name: str) -> os.stat_result | None:
    try:
        return os.lstat(os.path.join(directory, name))
    except FileNotFoundError:
        return None


def _kind(status: os.stat_result, before: os.stat_result | None) -> ChangeKind | None:
    if _is_whiteout(status):
        return ChangeKind.DELETED
    if before is None:
        return ChangeKind.ADDED
    if not (stat.S_ISDIR(status.st_mode) and stat.S_ISDIR(before.st_mode)):
        return ChangeKind.MODIFIED
    same = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
        before.st_mtime_ns,
    )
    return None if same else ChangeKind.MODIFIED


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, OPAQUE_XATTR, follow_symlinks=False) == b"y"
    except OSError:  # no such attribute, or none at all on this file system
        return False
