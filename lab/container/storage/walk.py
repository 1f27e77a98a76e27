"""Walks a tree of files by descriptors of its directories: however deep it is, and through no link.

A path ends at 4096 bytes and a link in it leads anywhere, and what containers have is theirs to choose, also while we
walk. So each directory is opened in the one above it, few are open at once, and one that was closed is found again by
its child's "..".
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from lab.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # what has become a FIFO must not keep us
_OPEN_MAX = 32  # of the directories above the one that is read
_PATH_MAX = 4096  # with the zero at its end
_CLOSED = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is at ``path`` from the top, "" for the top itself; found as ``name`` in the directory ``parent``.

    ``descriptor`` is the open directory if it is one, -1 if not. Both descriptors are good until the walk goes on.
    """

    path: str
    name: str
    parent: int
    status: os.stat_result
    descriptor: int = _CLOSED

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.descriptor != _CLOSED

    def open(self) -> int:
        """Return a descriptor of the file to read, which may have become another one meanwhile, never a link's target.

        Raises:
            OSError: with errno and path.
        """
        try:
            return os.open(self.name, _FILE, dir_fd=self.parent)
        except OSError as error:
            raise _called(self.path, error) from None


@dataclass(slots=True)
class _Level:
    """A directory that is being read; ``names`` are left, the next one last."""

    descriptor: int
    status: os.stat_result
    path: str
    names: list[str]


def walk(top: str) -> Iterator[Entry]:
    """Give all that is at and below ``top``, each directory before what is in it, sorted by name.

    What is removed or replaced meanwhile is left out.

    Raises:
        OSError: ``top`` is not there, or a directory cannot be read; with errno and path.
    """
    try:
        levels = [_level(os.open(top, DIRECTORY), "")]
    except NotADirectoryError:
        yield from _file(top)
        return
    try:
        _list(levels[0])
        yield _entry(levels[0], name=".", parent=levels[0].descriptor)
        while levels:
            if levels[-1].names:
                yield from _next(levels)
            else:
                _leave(levels)
    finally:
        for level in levels:
            _close(level)


def _file(top: str) -> Iterator[Entry]:
    parent = os.open(os.path.dirname(top) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = os.path.basename(top)
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        yield Entry(path="", name=name, parent=parent, status=status)
    finally:
        os.close(parent)


def _next(levels: list[_Level]) -> Iterator[Entry]:
    """Give the next entry of the innermost level, which becomes the innermost one itself if it is a directory."""
    level = levels[-1]
    name = level.names.pop()
    path = f"{level.path}/{name}" if level.path else name
    try:
        status = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            levels.append(_level(os.open(name, DIRECTORY, dir_fd=level.descriptor), path))
            _list(levels[-1])
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise _called(path, error) from None
    if levels[-1] is level:
        yield Entry(path=path, name=name, parent=level.descriptor, status=status)
        return
    yield _entry(levels[-1], name=name, parent=level.descriptor)
    if len(levels) > _OPEN_MAX + 1:  # the top stays open
        _close(levels[-_OPEN_MAX - 1])


def _level(descriptor: int, path: str) -> _Level:
    return _Level(descriptor, os.fstat(descriptor), path, [])


def _list(level: _Level) -> None:
    level.names = sorted(os.listdir(level.descriptor), reverse=True)


def _entry(level: _Level, *, name: str, parent: int) -> Entry:
    return Entry(path=level.path, name=name, parent=parent, status=level.status, descriptor=level.descriptor)


def _leave(levels: list[_Level]) -> None:
    """Go back to the level above, or to the next above that which is still there."""
    left = levels[-1]
    if len(levels) > 1 and levels[-2].descriptor == _CLOSED:
        above = levels[-2]
        above.descriptor = _again(above, left.descriptor, levels[0].descriptor)
        if above.descriptor == _CLOSED:
            above.names.clear()
    _close(levels.pop())


def _again(level: _Level, child: int, top: int) -> int:
    """Open a directory once more, by its child or, where that was moved elsewhere, by its path; -1 if it is gone."""
    if child != _CLOSED:
        descriptor = os.open("..", DIRECTORY, dir_fd=child)
        if os.path.samestat(os.fstat(descriptor), level.status):
            return descriptor
        os.close(descriptor)
    try:
        return open_below(top, level.path)
    except (FileNotFoundError, NotADirectoryError):
        return _CLOSED


def _close(level: _Level) -> None:
    if level.descriptor != _CLOSED:
        os.close(level.descriptor)
        level.descriptor = _CLOSED


def open_below(top: int, path: str) -> int:
    """Return a descriptor of the directory at ``path`` below the directory ``top``; no link is followed, any length is.

    Raises:
        OSError: with errno and path; NotADirectoryError for a link.
    """
    descriptor = os.dup(top)
    try:
        for piece in pieces(path):
            above, descriptor = descriptor, _inside(descriptor, piece)
            os.close(above)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _inside(directory: int, path: str) -> int:
    try:
        return openat2(directory, path or ".", DIRECTORY, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error
        raise


def pieces(path: str) -> Iterator[str]:
    """Give a path in parts that the kernel takes, each from where the one before leads to."""
    data = os.fsencode(path)
    while len(data) >= _PATH_MAX and b"/" in data[:_PATH_MAX]:
        piece = data[:_PATH_MAX].rpartition(b"/")[0]
        yield os.fsdecode(piece)
        data = data[len(piece) + 1 :]
    yield os.fsdecode(data)


def _called(path: str, error: OSError) -> OSError:
    """Let an error name the path, not only the last part of it that the kernel was given."""
    error.filename = path
    return error
