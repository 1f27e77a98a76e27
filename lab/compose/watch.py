"""`develop.watch`: which files have changed, and what is to be done about it.

The kernel tells that something has changed (inotify), and a comparison of the trees what: an editor that writes a file
anew, or many changes at once, are one change then.
"""

from __future__ import annotations

import fnmatch
import io
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from lab.compose.model import Service, WatchRule
from lab.container.image.ignore import IgnoreRules, parse_ignore
from lab.linux import inotify

_CHANGES = (
    inotify.IN_MODIFY
    | inotify.IN_MOVED_FROM
    | inotify.IN_MOVED_TO
    | inotify.IN_CREATE
    | inotify.IN_DELETE
    | inotify.IN_DELETE_SELF
)
_ALWAYS_IGNORED = (".git/", "**/.*.swp", "**/*~", "**/.#*", "**/4913")
_SETTLE_NS = 100_000_000

Snapshot = Mapping[str, tuple[int, int, int]]
"""Paths below a rule's, "" for itself, with what changes when they do: inode, size, time of change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a rule has to do with: paths below the rule's own that are new or other than before, and that are gone."""

    service: str
    rule: WatchRule
    changed: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()


def ignore_rules(service: Service, rule: WatchRule) -> IgnoreRules:
    """Return which paths below a rule's do not count: its own patterns, and those of the build's .dockerignore."""
    lines = [*_ALWAYS_IGNORED, *rule.ignore]
    if service.build is not None and rule.path.startswith(service.build.context):
        with suppress(OSError), open(os.path.join(service.build.context, ".dockerignore"), encoding="utf-8") as file:
            lines += file.read().splitlines()
    return parse_ignore("\n".join(line for line in lines if line))


def snapshot(rule: WatchRule, ignored: IgnoreRules) -> dict[str, tuple[int, int, int]]:
    """Return the files of a rule as they are now."""
    found = {}
    for path in _files(rule.path, ignored):
        relative = os.path.relpath(path, rule.path)
        if rule.include and not any(fnmatch.fnmatch(relative, pattern) for pattern in rule.include):
            continue
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            found["" if relative == "." else relative] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def _files(root: str, ignored: IgnoreRules) -> Iterator[str]:
    if not os.path.isdir(root):
        yield root
        return
    for directory, directories, files in os.walk(root):
        below = os.path.relpath(directory, root)
        prefix = "" if below == "." else f"{below}/"
        directories[:] = sorted(name for name in directories if not ignored.prunes(prefix + name))
        yield from (os.path.join(directory, name) for name in sorted(files) if not ignored.excludes(prefix + name))


def compare(service: str, rule: WatchRule, before: Snapshot, now: Snapshot) -> Change | None:
    """Return what has changed, None for nothing."""
    changed = tuple(path for path, state in now.items() if before.get(path) != state)
    gone = tuple(path for path in before if path not in now)
    return Change(service=service, rule=rule, changed=changed, gone=gone) if changed or gone else None


class Watcher:
    """The trees of some services' rules; to be used in a ``with`` block."""

    def __init__(self, services: Iterable[Service]) -> None:
        """Look at all of them once."""
        self._rules = [(each, rule, ignore_rules(each, rule)) for each in services for rule in each.watch]
        self._watch = inotify.Watch()
        self._add_directories()
        self._snapshots = [snapshot(rule, ignored) for _, rule, ignored in self._rules]

    def __enter__(self) -> Watcher:
        """Return the watcher itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Watch no more."""
        self._watch.__exit__()

    def initial(self) -> tuple[Change, ...]:
        """Return all files of the rules that want to begin with a sync."""
        return tuple(
            Change(service=service.name, rule=rule, changed=tuple(found))
            for (service, rule, _), found in zip(self._rules, self._snapshots, strict=True)
            if rule.initial_sync
        )

    def wait(self) -> tuple[Change, ...]:
        """Return what has changed since the last call, once something has and no more comes."""
        self._watch.wait(None)
        self._watch.read()
        while self._watch.wait(_SETTLE_NS):
            self._watch.read()
        self._add_directories()
        found = []
        for index, (service, rule, ignored) in enumerate(self._rules):
            now = snapshot(rule, ignored)
            change = compare(service.name, rule, self._snapshots[index], now)
            self._snapshots[index] = now
            found += [change] if change is not None else []
        return tuple(found)

    def _add_directories(self) -> None:
        """Watch all directories of the rules: those that are new since, too; watching one twice is watching it once."""
        for _, rule, ignored in self._rules:
            if not os.path.isdir(rule.path):
                self._add(os.path.dirname(rule.path))
                continue
            for directory, directories, _ in os.walk(rule.path):
                below = os.path.relpath(directory, rule.path)
                prefix = "" if below == "." else f"{below}/"
                directories[:] = [name for name in directories if not ignored.prunes(prefix + name)]
                self._add(directory)

    def _add(self, directory: str) -> None:
        with suppress(FileNotFoundError):
            self._watch.add(directory, _CHANGES)


def target_of(rule: WatchRule, path: str) -> str:
    """Return where a path below a rule's own is in the container."""
    return os.path.join(rule.target, path) if path else rule.target


def archive(rule: WatchRule, paths: Sequence[str]) -> io.BytesIO:
    """Return files as a tar that is to be unpacked at the container's root; what has vanished meanwhile is left out."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in paths:
            with suppress(FileNotFoundError):
                source = os.path.join(rule.path, path) if path else rule.path
                tar.add(source, arcname=target_of(rule, path).lstrip("/"), recursive=False)
    stream.seek(0)
    return stream
