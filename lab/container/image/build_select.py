"""Which files a COPY takes, and the digest of all that counts about them.

A source is a path or a pattern below a root, which no symbolic link leads out of. A directory stands for what is in
it. Source: https://docs.docker.com/reference/dockerfile/#copy.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.container.image.ignore import IgnoreRules, expression, parse_ignore
from lab.errors import ContainerError
from lab.linux.openat2 import RESOLVE_IN_ROOT, openat2

_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_PATTERN = re.compile(r"[*?\[\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One file, directory or link: where it is, and its name below the destination, "" for the destination itself."""

    path: str
    name: str
    status: os.stat_result

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One match of a source: a file with its name, or a directory with all that is taken of it, itself first.

    ``keeps_owners`` says that its files go on belonging to whom they belong to.
    """

    name: str
    is_directory: bool
    items: tuple[Item, ...]
    keeps_owners: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where files are taken from: a root directory, what it is called in messages, and what is left out of it.

    ``keeps_owners`` says whether the files belong to anyone who means something in an image.
    """

    root: str
    subject: str
    keeps_owners: bool = False
    rules: IgnoreRules = field(default_factory=IgnoreRules)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is taken of a source: ``excludes`` are patterns below it, ``parents`` keeps its directories' names."""

    excludes: tuple[str, ...] = ()
    parents: bool = False


def select(origin: Origin, source: str, choice: Choice) -> tuple[Source, ...]:
    """Return what a source path or pattern stands for, sorted.

    Raises:
        ContainerError: there is nothing like it, or the ignore file leaves it out.
    """
    pivot = source.partition("/./")[0] if choice.parents and "/./" in source else ""
    clean = posixpath.normpath("/" + source).lstrip("/")
    base = posixpath.normpath("/" + pivot).lstrip("/")
    matches = sorted(_glob(origin, clean)) if _PATTERN.search(clean) else [clean]
    found = [each for match in matches if (each := _source(origin, match, base, choice)) is not None]
    if not found and _PATTERN.search(clean):
        raise ContainerError(f"no source files were specified: nothing in {origin.subject} matches {source}")
    if not found:
        ignored = origin.rules.excludes(clean)
        raise ContainerError(
            f"file not found in {origin.subject}{' since .dockerignore excludes it' if ignored else ''}: {source}",
            hint="take its pattern out of .dockerignore, or add an exception: !PATTERN" if ignored else "",
        )
    return tuple(found)


def digest(sources: Iterable[Source]) -> str:
    """Return the digest of names, types, permissions and content, and of owners where they are kept; not of times.

    Raises:
        OSError: a file cannot be read.
    """
    total = hashlib.sha256()
    for source in sources:
        total.update(repr((source.name, source.is_directory)).encode("utf-8", "surrogateescape"))
        for item in source.items:
            total.update(_told(item, owners=source.keeps_owners))
    return total.hexdigest()


def kept_xattrs(path: str) -> dict[str, bytes]:
    """Return the extended attributes that go with a file wherever it is copied to."""
    names = [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith(_KEPT_XATTRS)]
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in sorted(names)}


def resolve(root: str, path: str) -> str:
    """Return where ``path`` leads to when ``root`` is "/" to every link in it, as a path of this process.

    Raises:
        OSError: there is nothing.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = openat2(root_fd, path or ".", os.O_PATH | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT)
    finally:
        os.close(root_fd)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def _told(item: Item, *, owners: bool) -> bytes:
    status = item.status
    owner = (status.st_uid, status.st_gid) if owners else ()
    facts = (item.name, oct(status.st_mode), owner, tuple(kept_xattrs(item.path).items()), _content(item))
    return repr(facts).encode("utf-8", "surrogateescape")


def _content(item: Item) -> str:
    mode = item.status.st_mode
    if stat.S_ISREG(mode):
        with open(item.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    return os.readlink(item.path) if stat.S_ISLNK(mode) else str(item.status.st_rdev)


def _glob(origin: Origin, pattern: str) -> Iterator[str]:
    """Give the paths that match, component by component."""
    found = [""]
    for part in pattern.split("/"):
        wanted = expression(part)
        found = [
            f"{directory}/{name}".lstrip("/")
            for directory in found
            for name in _names(origin, directory)
            if wanted.fullmatch(name)
        ]
    yield from found


def _names(origin: Origin, directory: str) -> list[str]:
    try:
        return os.listdir(resolve(origin.root, directory))
    except OSError:
        return []  # a file, or a link that leads nowhere: no directory that could match


def _source(origin: Origin, match: str, base: str, choice: Choice) -> Source | None:
    try:
        path = resolve(origin.root, match)
    except OSError:
        return None
    status = os.stat(path)
    name = posixpath.relpath(match, base) if choice.parents and base else match
    kept = name if choice.parents else ""
    if stat.S_ISDIR(status.st_mode):
        if match and origin.rules.prunes(match):
            return None
        left_out = parse_ignore("\n".join(choice.excludes), path="--exclude")
        inside = _walk(path, match, kept, origin.rules, left_out)
        items = (Item(path=path, name=kept, status=status), *inside)
        return Source(name=kept, is_directory=True, items=items, keeps_owners=origin.keeps_owners)
    basename = posixpath.basename(match)
    if origin.rules.excludes(match) or parse_ignore("\n".join(choice.excludes)).excludes(basename):
        return None
    item = Item(path=path, name=kept or basename, status=status)
    return Source(name=kept or basename, is_directory=choice.parents, items=(item,), keeps_owners=origin.keeps_owners)


def _walk(top: str, below: str, kept: str, rules: IgnoreRules, left_out: IgnoreRules) -> Iterator[Item]:
    """Give what is taken of a directory, each directory before what is in it, sorted by name."""
    pending = [""]
    while pending:
        relative = pending.pop()
        if relative:
            path = os.path.join(top, relative)
            yield Item(path=path, name=posixpath.join(kept, relative), status=os.lstat(path))
        directories = []
        for entry in sorted(os.scandir(os.path.join(top, relative)), key=lambda entry: entry.name):
            name = posixpath.join(relative, entry.name)
            in_context = posixpath.join(below, name)
            if entry.is_dir(follow_symlinks=False):
                if not rules.prunes(in_context) and not left_out.prunes(name):
                    directories.append(name)
            elif not rules.excludes(in_context) and not left_out.excludes(name):
                yield Item(path=entry.path, name=posixpath.join(kept, name), status=entry.stat(follow_symlinks=False))
        pending += reversed(directories)
