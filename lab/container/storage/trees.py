"""Directory trees of containers, removed whole: however deep, since what is in them is not ours to choose.

A walk by recursion, or by a descriptor a level, ends at a depth that any container can exceed.
"""

from __future__ import annotations

import os
from contextlib import suppress


def remove_tree(path: str) -> None:
    """Remove the directory at ``path`` with all that is in it; links are not followed, what goes meanwhile is no error.

    Inner directories are moved up to ``path`` before they are emptied, so that no path becomes long.

    Raises:
        OSError: with errno and path; the rest is still there.
    """
    with suppress(FileNotFoundError):
        waiting = _empty(path)
        taken = {os.path.basename(each) for each in waiting}
        number = 0
        while waiting:
            inner = waiting.pop()
            for each in _empty(inner):
                while str(number) in taken:
                    number += 1
                moved = os.path.join(path, str(number))
                number += 1
                with suppress(FileNotFoundError):
                    _rename(each, moved)
                    waiting.append(moved)
            with suppress(FileNotFoundError):
                os.rmdir(inner)
        os.rmdir(path)


def _empty(path: str) -> list[str]:
    """Remove what is in a directory but its directories, and return those."""
    directories = []
    with suppress(FileNotFoundError):
        for name in _names(path):
            inner = os.path.join(path, name)
            try:
                os.unlink(inner)
            except IsADirectoryError:
                directories.append(inner)
            except FileNotFoundError:
                continue
    return directories


def _names(path: str) -> list[str]:
    with suppress(PermissionError):
        if os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return os.listdir(path)
        os.chmod(path, 0o700)  # its owner has closed it to himself, as overlay's own is
    return os.listdir(path)


def _rename(path: str, target: str) -> None:
    try:
        os.rename(path, target)
    except PermissionError:  # moving a directory changes what ".." in it is
        os.chmod(path, 0o700)
        os.rename(path, target)
