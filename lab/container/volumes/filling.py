"""An empty volume takes what the image has at its path, with owner, mode, attributes and links: whole, and once.

    volumes/<name>/.filling   what is being copied; of no use to anybody else
    volumes/<name>/.filled    what has been copied whole, and is being moved into _data
    DEVICE/.lab.filling, .lab.filled   the same of a volume that is a directory of the host on another file system
    volumes/<name>/.within    says that a volume on a file system of its own, into which nothing can be moved, is filled

Whoever is killed amid this leaves one of them, and the next who uses the volume removes the first, goes on with the
second, or empties what the third is about. All of it happens under the volume's lock, so that of two that make a volume
at once one waits for the other.
"""

from __future__ import annotations

import fcntl
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from lab.container import inside
from lab.container.storage.pack import pack_tree
from lab.container.storage.trees import remove_tree
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.linux import filesystem

_STAGES = (".filling", ".filled")
_WITHIN = ".within"


def fill(directory: str, data: str, path: str, layers: tuple[str, ...]) -> None:
    """Let a volume take an image's content at ``path`` if it is empty; ``directory`` is the volume's own.

    Raises:
        ContainerError: a file could not be read or written.
        OSError: with errno and path.
    """
    with _locked(directory):
        filling, filled = _stages(directory, data)
        _settle(filling, filled, data)
        if os.listdir(data) or not layers:
            return
        os.mkdir(filling, 0o755)
        try:
            copied = _copy(layers, filling, path)
        except BaseException:
            remove_tree(filling)
            raise
        if not copied:
            os.rmdir(filling)
            return
        os.rename(filling, filled)
        _settle(filling, filled, data)


def _stages(directory: str, data: str) -> tuple[str, str]:
    """Return where is what is being copied, and what has been: on the file system of ``data``, to be moved at once."""
    is_near = os.stat(directory).st_dev == os.stat(data).st_dev
    places = (os.path.join(directory, name) if is_near else os.path.join(data, f".lab{name}") for name in _STAGES)
    filling, filled = places
    return filling, filled


def fill_within(directory: str, data: str, path: str, layers: tuple[str, ...]) -> None:
    """Do what ``fill`` does for a volume on a file system of its own, which is mounted at ``data``.

    Raises:
        ContainerError: a file could not be read or written.
        OSError: with errno and path.
    """
    mark = os.path.join(directory, _WITHIN)
    with _locked(directory):
        if os.path.exists(mark):
            _empty(data)
            os.unlink(mark)
        if os.listdir(data) or not layers or os.statvfs(data).f_flag & os.ST_RDONLY:
            return
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            _copy(layers, data, path)
        except BaseException:
            _empty(data)
            os.unlink(mark)
            raise
        filesystem.syncfs(data)
        os.unlink(mark)


def _empty(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            remove_tree(entry.path)
        else:
            os.unlink(entry.path)


def _settle(filling: str, filled: str, data: str) -> None:
    """End what a killed command has begun; to be called under the volume's lock."""
    if os.path.lexists(filling):
        remove_tree(filling)
    if not os.path.lexists(filled):
        return
    for name in os.listdir(filled):
        os.rename(os.path.join(filled, name), os.path.join(data, name))
    status = os.stat(filled)
    os.chown(data, status.st_uid, status.st_gid)
    shutil.copystat(filled, data)
    os.rmdir(filled)


def _copy(layers: tuple[str, ...], target: str, path: str) -> bool:
    """Copy a directory of an image; return whether there is one."""

    def pack(stream: BinaryIO) -> None:
        top = os.path.realpath(path)
        if os.path.isdir(top):
            pack_tree(top, stream)

    with inside.reading_layers(layers, target, pack) as source:
        if not isinstance(source, io.BufferedReader) or not source.peek(1):
            return False
        unpack(source, target, UnpackLimits(), subject=f"the image's {path}", whiteouts=False)
    return True


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
