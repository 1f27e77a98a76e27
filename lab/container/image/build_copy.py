"""Copies files into a root file system: what was selected, with the owners and permissions that were asked for.

The kernel finds every directory with the root as ``/`` (openat2, RESOLVE_IN_ROOT), and a last component is never
followed, so that no link in an image leads out of it.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from lab.container.image.build_select import Item, Source, kept_xattrs
from lab.container.storage.holes import data_parts, has_holes
from lab.container.storage.trees import remove_tree
from lab.errors import ContainerError
from lab.linux.openat2 import RESOLVE_IN_ROOT, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK_BYTES = 1 << 30
_OPEN_MAX = 128  # files come directory by directory: the last ones are those that are needed again
_CLAUSE = re.compile(r"([ugoa]*)([-+=])([rwxXst]*)")

Owner = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How files are copied: to whom they belong (None: as before), and how ``--chmod`` changes modes, if it does."""

    owner: Owner | None = (0, 0)
    chmod: str = ""

    def mode_of(self, status: os.stat_result) -> int:
        """Return the permissions that a copy gets."""
        mode = stat.S_IMODE(status.st_mode)
        return changed_mode(mode, self.chmod, is_directory=stat.S_ISDIR(status.st_mode)) if self.chmod else mode

    def owner_of(self, status: os.stat_result) -> Owner:
        """Return to whom a copy belongs."""
        return self.owner or (status.st_uid, status.st_gid)


def changed_mode(mode: int, change: str, *, is_directory: bool) -> int:
    """Return ``mode`` changed by what ``--chmod`` says: an octal number, or clauses as in "u=rwX,go-w".

    Raises:
        ContainerError: it is neither. Source: man chmod(1).
    """
    if re.fullmatch(r"[0-7]{1,5}", change):
        return int(change, 8) & 0o7777
    for clause in change.split(","):
        match = _CLAUSE.fullmatch(clause)
        if match is None:
            raise ContainerError(f"invalid --chmod: {change}", hint="an octal number, or clauses such as u=rwX,go=rX")
        mode = _clause(mode, match, is_directory=is_directory)
    return mode


def _clause(mode: int, match: re.Match[str], *, is_directory: bool) -> int:
    who, operator, letters = match.groups()
    executes = "x" in letters or ("X" in letters and (is_directory or mode & 0o111))
    triple = (4 if "r" in letters else 0) | (2 if "w" in letters else 0) | (1 if executes else 0)
    bits = touched = 0
    for name, shift, special, letter in (("u", 6, 0o4000, "s"), ("g", 3, 0o2000, "s"), ("o", 0, 0o1000, "t")):
        if not who or name in who or "a" in who:
            touched |= 0o7 << shift | special
            bits |= triple << shift | (special if letter in letters else 0)
    if is_directory and "s" not in letters:
        touched &= ~0o6000  # a directory keeps these unless they are named
    if operator == "=":
        return (mode & ~touched) | bits
    return mode | bits if operator == "+" else mode & ~bits


@dataclass(slots=True)
class Tree:
    """A root file system being written to."""

    root_fd: int
    manner: Manner
    _links: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    _directories: list[tuple[str, Item]] = field(default_factory=list)
    _open: dict[str, int] = field(default_factory=dict)

    def copy(self, source: Source, destination: str) -> None:
        """Copy a file to a path, or into a directory if the path ends in "/" or is one; of a directory, what is in it.

        Links are followed where the destination says so, also if what they lead to has to be made first. What a copy
        meets under the name of one of its own files or directories is replaced.

        Raises:
            ContainerError: the destination leads through something that is no directory.
            OSError: with errno and path.
        """
        if source.is_directory:
            self._copy_all(source, destination)
            return
        into = destination.endswith("/") or self._is_directory(destination)
        directory, name = (destination, source.name) if into else posixpath.split(self._followed(destination))
        self._put(source.items[0], directory, name)

    def _followed(self, path: str) -> str:
        """Return where ``path`` leads to if it is a link, whether something is there or not, else ``path``."""
        try:
            descriptor = self._open_in_root(path, os.O_PATH | os.O_CLOEXEC)
        except FileNotFoundError:
            parent, name = posixpath.split(path)
            target = self._target(self.directory(parent), name)
            return path if target is None else self._followed(target)
        except NotADirectoryError:
            return path  # told when its directory is opened
        try:
            return self._path_of(descriptor)
        finally:
            os.close(descriptor)

    def _target(self, parent: int, name: str) -> str | None:
        """Return where the link ``name`` leads to, as a path from the root; None if it is none."""
        try:
            return posixpath.join(self._path_of(parent), os.readlink(name, dir_fd=parent))
        except OSError:
            return None

    def _path_of(self, descriptor: int) -> str:
        root = os.readlink(f"/proc/self/fd/{self.root_fd}")
        return os.readlink(f"/proc/self/fd/{descriptor}").removeprefix(root) or "/"

    def _copy_all(self, source: Source, destination: str) -> None:
        for item in source.items:
            path = posixpath.join(destination, item.name)
            if item.is_directory:
                self._merge(item, path)
            else:
                self._put(item, *posixpath.split(path))

    def _merge(self, item: Item, path: str) -> None:
        """Make a directory like ``item``; one that is there keeps its content, the topmost one all else as well."""
        if item.name:
            self._make_room(path, for_directory=True)
        is_new = not self._is_directory(path)
        descriptor = self.directory(path)
        if item.name:
            _set_attributes(descriptor, item, self.manner)
            self._directories.append((path, item))
        elif is_new and self.manner.chmod:
            os.fchmod(descriptor, changed_mode(0o755, self.manner.chmod, is_directory=True))

    def finish(self) -> None:
        """Set the directories' times, which making their content has changed."""
        for path, item in self._directories:
            os.utime(self.directory(path), ns=(item.status.st_mtime_ns, item.status.st_mtime_ns))

    def close(self) -> None:
        """Close the directories."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def directory(self, path: str) -> int:
        """Return the descriptor of a directory, made with all above it if it is not there.

        Raises:
            ContainerError: something else is there.
        """
        clean = posixpath.normpath("/" + path.lstrip("/"))
        if clean not in self._open:
            descriptor = self._opened(clean)
            if len(self._open) >= _OPEN_MAX:
                self.close()
            self._open[clean] = descriptor
        return self._open[clean]

    def _opened(self, path: str) -> int:
        try:
            return self._open_in_root(path, _DIRECTORY)
        except FileNotFoundError:
            parent, name = posixpath.split(path)
            self._make(self.directory(parent), name)
            return self._open_in_root(path, _DIRECTORY)
        except NotADirectoryError:
            raise ContainerError(f"cannot copy to {path}: it, or what is above it, is not a directory") from None

    def _open_in_root(self, path: str, flags: int) -> int:
        try:
            return openat2(self.root_fd, path, flags, 0, RESOLVE_IN_ROOT)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise ContainerError(f"cannot copy to {path}: its links lead round in circles") from None

    def _make(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            target = self._target(parent, name)
            if target is not None:  # a link that leads nowhere yet
                self.directory(target)
            return
        os.chmod(name, 0o755, dir_fd=parent)  # whatever the umask is
        owner = self.manner.owner or (0, 0)
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)

    def _is_directory(self, path: str) -> bool:
        try:
            os.close(openat2(self.root_fd, path, _DIRECTORY, 0, RESOLVE_IN_ROOT))
        except OSError:
            return False
        return True

    def _put(self, item: Item, directory: str, name: str) -> None:
        if stat.S_ISSOCK(item.status.st_mode):  # a socket means nothing without its process
            return
        self._make_room(posixpath.join(directory, name), for_directory=False)
        parent = self.directory(directory)
        key = (item.status.st_dev, item.status.st_ino)
        if item.status.st_nlink > 1 and key in self._links:
            self._link(self._links[key], directory, name)
            return
        self._links[key] = (directory, name)
        if stat.S_ISREG(item.status.st_mode):
            self._put_file(item, parent, name)
        else:
            self._put_special(item, parent, name)

    def _link(self, existing: tuple[str, str], directory: str, name: str) -> None:
        first = os.dup(self.directory(existing[0]))  # opening the other may close it
        try:
            parent = self.directory(directory)
            os.link(existing[1], name, src_dir_fd=first, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(first)

    def _put_special(self, item: Item, parent: int, name: str) -> None:
        mode = item.status.st_mode
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(item.path), name, dir_fd=parent)
        else:
            os.mknod(name, stat.S_IFMT(mode) | 0o600, item.status.st_rdev, dir_fd=parent)
            os.chmod(name, self.manner.mode_of(item.status), dir_fd=parent)
        os.chown(name, *self.manner.owner_of(item.status), dir_fd=parent, follow_symlinks=False)
        _set_time(item, parent, name)

    def _make_room(self, path: str, *, for_directory: bool) -> None:
        """Remove what a copy would replace at ``path``, a link itself; a directory stays for a directory."""
        directory, name = posixpath.split(path)
        parent = self.directory(directory)
        with suppress(FileNotFoundError):
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if stat.S_ISDIR(mode) and for_directory:
                return
            if stat.S_ISDIR(mode):
                remove_tree(f"/proc/self/fd/{parent}/{name}")
            else:
                os.unlink(name, dir_fd=parent)
            if not stat.S_ISREG(mode):
                self.close()  # some that are open may have been reached through what is gone

    def _put_file(self, item: Item, parent: int, name: str) -> None:
        target = os.open(name, _FILE, 0o600, dir_fd=parent)
        try:
            with open(item.path, "rb", buffering=0) as source:
                copy_content(source.fileno(), target, item.status)
            _set_attributes(target, item, self.manner)
        finally:
            os.close(target)
        _set_time(item, parent, name)


@contextmanager
def writing(root: str, manner: Manner) -> Iterator[Tree]:
    """Give the root file system at ``root`` to be written to; directories have their times after the block."""
    root_fd = os.open(root, _DIRECTORY)
    tree = Tree(root_fd, manner)
    try:
        yield tree
        tree.finish()
    finally:
        tree.close()
        os.close(root_fd)


def copy_content(source: int, target: int, status: os.stat_result) -> None:
    """Copy the bytes of one file to another, holes left out; the kernel moves them."""
    size = status.st_size
    if not has_holes(status):
        _copy_range(source, target, 0, size)
        return
    for begin, length in data_parts(source, size):
        _copy_range(source, target, begin, begin + length)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, begin: int, end: int) -> None:
    os.lseek(target, begin, os.SEEK_SET)
    while begin < end:
        count = os.sendfile(target, source, begin, min(end - begin, _CHUNK_BYTES))
        if not count:
            return  # it has become shorter meanwhile
        begin += count


def _set_attributes(descriptor: int, item: Item, manner: Manner) -> None:
    os.fchown(descriptor, *manner.owner_of(item.status))
    os.fchmod(descriptor, manner.mode_of(item.status))  # after chown, which clears set-user-id
    for name, value in kept_xattrs(item.path).items():
        os.setxattr(descriptor, name, value)


def _set_time(item: Item, parent: int, name: str) -> None:
    times = (item.status.st_mtime_ns, item.status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)
