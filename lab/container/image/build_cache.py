"""The build cache: what each step left behind, found by the key of all that it was made from.

    builds/steps/<key>      one JSON document: where the files are, when they were made, the layer if it was packed
    builds/layers/<name>    the files of one step, as overlay's upper directory left them
    builds/mounts/<name>    what ``RUN --mount=type=cache`` keeps
    builds/work/<name>      one directory for each build that runs now

Nothing waits for the disk here. A document says under which boot of the host its files were written; after another
boot they are trusted only if they had been synced, or come out of a packed layer again. Builds hold the lock together;
who removes holds it alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace

from lab.container.spec.image import Descriptor, is_digest
from lab.container.state import ProcessIdentity
from lab.container.storage import disk, durable
from lab.container.storage.pack import Layer
from lab.container.storage.snapshots import unmount_below
from lab.container.storage.trees import remove_tree
from lab.container.storage.walk import walk
from lab.errors import StateConflict
from lab.linux.filesystem import syncfs

_WORK = re.compile(r"(\d+)-(\d+)-.*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cached:
    """What a step left: the name of its directory, "" if it changed no files; ``created_s`` since the epoch.

    ``result`` tells these very files apart from those of another run of the same step. ``boot`` is the boot of the host
    under which the files were written, "" once they are safe on the disk. ``digest``, ``size``, ``media_type`` and
    ``diff_id`` are those of the packed layer, once it has been packed.
    """

    created_s: int
    name: str = ""
    result: str = ""
    boot: str = ""
    digest: str = ""
    size: int = 0
    media_type: str = ""
    diff_id: str = ""

    @property
    def layer(self) -> Layer | None:
        """The packed layer, if it has been packed; its blob may be gone."""
        if not is_digest(self.digest) or not is_digest(self.diff_id):
            return None
        descriptor = Descriptor(media_type=self.media_type, digest=self.digest, size=self.size)
        return Layer(descriptor=descriptor, diff_id=self.diff_id)


class BuildCache:
    """The build cache of one lab root; nothing is made before the first build."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._boot = _boot_id()

    @contextmanager
    def building(self) -> Iterator[str]:
        """Give a build its work directory; what killed ones left, mounts included, is removed first."""
        for name in ("steps", "layers", "mounts", "work", "stale"):
            os.makedirs(os.path.join(self._root, name), mode=0o711, exist_ok=True)
        self.repair()
        with durable.shared(self._lock):
            owner = ProcessIdentity.of(os.getpid())
            work = os.path.join(self._root, "work", f"{owner.pid}-{owner.started_ticks}-{_new_name()[:8]}")
            os.mkdir(work, 0o711)
            try:
                yield work
            finally:
                _remove_tree(work)

    def find(self, key: str, unpack: Callable[[Layer], str]) -> Cached | None:
        """Return what a step with this key left, if that can be used.

        ``unpack`` makes a directory of a packed layer anew, for files that a reboot may have damaged; "" if it cannot.
        """
        try:
            with open(self._document(key), encoding="utf-8") as file:
                found = Cached(**json.load(file))
        except (FileNotFoundError, ValueError, TypeError):
            return None  # never there, cut off by a crash of the host, or of another version
        if not found.name:
            return found
        if os.path.isdir(self.directory(found)) and found.boot in ("", self._boot):
            return found
        layer = found.layer
        directory = "" if layer is None else unpack(layer)
        return None if not directory else self._adopt(key, found, directory)

    def _adopt(self, key: str, found: Cached, directory: str) -> Cached:
        adopted = replace(found, name=_new_name(), boot=self._boot)
        self._write(key, adopted)
        os.rename(directory, self.directory(adopted))
        return adopted

    def keep(self, key: str, upper: str | None, *, created_s: int) -> Cached:
        """Take the files of a step over from ``upper``, which is gone then; None for a step that changed none."""
        if upper is None:
            kept = Cached(created_s=created_s)
            self._write(key, kept)
        else:
            name = _new_name()
            kept = Cached(created_s=created_s, name=name, result=name, boot=self._boot)
            self._forget(key)
            self._write(key, kept)  # first: a crash before the rename leaves a document that nothing is found by
            os.rename(upper, self.directory(kept))
        return kept

    def remember(self, key: str, cached: Cached, layer: Layer) -> Cached:
        """Note which layer the files of a step became."""
        descriptor = layer.descriptor
        known = replace(
            cached,
            digest=descriptor.digest,
            size=descriptor.size,
            media_type=descriptor.media_type,
            diff_id=layer.diff_id,
        )
        current = self.find(key, lambda _: "")
        if current is not None and current.name == cached.name:  # else another build has put its own files there
            self._write(key, known)
        return known

    def settle(self, keys: Iterable[str]) -> None:
        """Make the files of steps that were not packed safe on the disk, so that they outlive a reboot."""
        found = {key: self.find(key, lambda _: "") for key in keys}
        loose = {key: cached for key, cached in found.items() if cached and cached.boot and not cached.digest}
        if not loose:
            return
        syncfs(self._root)
        for key, cached in loose.items():
            self._write(key, replace(cached, boot=""))

    def directory(self, cached: Cached) -> str:
        """Return where the files of a step are."""
        return os.path.join(self._root, "layers", cached.name)

    def mount_directory(self, identifier: str) -> str:
        """Return the directory of a cache mount, whether it is there or not."""
        return os.path.join(self._root, "mounts", hashlib.sha256(identifier.encode()).hexdigest()[:32])

    def prune(self) -> int:
        """Remove everything that builds have kept; return how many bytes that was.

        Raises:
            StateConflict: a build is running.
        """
        if not os.path.isdir(self._root):
            return 0
        with durable.locked_if_free(self._lock) as alone:
            if not alone:
                raise StateConflict("a build is running, and uses the build cache", hint="try again when it has ended")
            size_bytes = self.size_bytes()
            for name in ("steps", "layers", "mounts", "work", "stale"):
                _remove_tree(os.path.join(self._root, name))
        return size_bytes

    def size_bytes(self) -> int:
        """Return how much of the disk all this takes; what it shares with unpacked layers of images counts."""
        if not os.path.isdir(self._root):
            return 0
        statuses = (found.status for found in walk(self._root) if not found.is_directory)
        return sum(status.st_blocks * disk.BLOCK_BYTES for status in statuses)

    @property
    def _lock(self) -> str:
        return os.path.join(self._root, "builds.lock")

    def _document(self, key: str) -> str:
        return os.path.join(self._root, "steps", key)

    def _write(self, key: str, cached: Cached) -> None:
        temporary = f"{self._document(key)}.{_new_name()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(asdict(cached), file)
        os.replace(temporary, self._document(key))

    def _forget(self, key: str) -> None:
        """Let the files go that a step left earlier, once nobody can be using them any more."""
        found = self.find(key, lambda _: "")
        if found is not None and found.name:
            with suppress(FileExistsError):
                os.symlink(found.name, os.path.join(self._root, "stale", found.name))

    def leftovers(self) -> tuple[str, ...]:
        """Return the names of work directories whose builds have been killed."""
        return tuple(name for name in self._names("work") if _is_left(name))

    def repair(self) -> None:
        """Remove what killed builds have left, mounts included; what a running one may use is left to the next time."""
        if os.path.isdir(self._root):
            with durable.locked_if_free(self._lock) as alone:
                if alone:
                    self._remove_leftovers()

    def _remove_leftovers(self) -> None:
        for name in self._names("stale"):
            _remove_tree(os.path.join(self._root, "layers", name))
            os.unlink(os.path.join(self._root, "stale", name))
        for name in self._names("steps"):
            if "." in name:  # a document that was not finished
                os.unlink(os.path.join(self._root, "steps", name))
        for name in self.leftovers():
            _remove_tree(os.path.join(self._root, "work", name))

    def _names(self, directory: str) -> list[str]:
        try:
            return os.listdir(os.path.join(self._root, directory))
        except FileNotFoundError:
            return []


def _is_left(name: str) -> bool:
    match = _WORK.fullmatch(name)
    return match is None or not ProcessIdentity(pid=int(match[1]), started_ticks=int(match[2])).is_alive()


def link_tree(source: str, target: str) -> None:
    """Make ``target`` a second name for all that is in the tree ``source``: new directories, hard links to the rest.

    Raises:
        OSError: with errno and path, ENAMETOOLONG for a tree that is too deep for that.
    """
    directories = [(source, target)]
    os.mkdir(target, 0o700)
    for directory, linked in directories:  # which grows meanwhile
        for entry in os.scandir(directory):
            path = os.path.join(linked, entry.name)
            if entry.is_dir(follow_symlinks=False):
                os.mkdir(path, 0o700)
                directories.append((entry.path, path))
            else:
                os.link(entry.path, path, follow_symlinks=False)
    for directory, linked in reversed(directories):
        _copy_attributes(directory, linked)


def _copy_attributes(source: str, target: str) -> None:
    status = os.lstat(source)
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, status.st_mode & 0o7777)
    for name in os.listxattr(source):
        os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove_tree(path: str) -> None:
    if os.path.isdir(path):
        unmount_below(path)
        remove_tree(path)


def _new_name() -> str:
    return os.urandom(16).hex()


def _boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()
