"""A container's files, from outside: everything that touches them runs in a process confined to its root.

A path of a container is never resolved by a process that has the host's root: a link, or a directory that becomes one
at the wrong moment, would lead out of it. So a child enters the container's mount namespace, or mounts what a stopped
one would have, makes it its root, and talks through a pipe. It imports nothing there, since a module or a library of
the container would run with our rights (CVE-2019-14271), and it looks up no names of users.
"""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import IO, BinaryIO

from lab.container import bind_source, user_namespace
from lab.container.spec.runtime import Mount, Spec, Status
from lab.container.state import ContainerState
from lab.container.storage import overlay
from lab.container.storage.pack import TreeWriter, write_tree, writing_tree
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.container.storage.walk import walk
from lab.errors import ContainerError, LabError
from lab.linux import idmap, mount, openat2
from lab.linux import namespaces as ns

_REPORT_BYTES = 65536
_OTHER_KIND = "Are you trying to mount a directory onto a file (or vice-versa)?"
_IN_ROOT = openat2.RESOLVE_IN_ROOT | openat2.RESOLVE_NO_MAGICLINKS


class FileError(ContainerError):
    """A file of a container could not be found, read or written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PathStat:
    """What a path of a container is: name, size in bytes, mode with the type's bits, mtime in ns, target of a link."""

    name: str
    size: int
    mode: int
    mtime_ns: int
    link_target: str = ""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)


class OwnedWriter(TreeWriter):
    """A tree whose entries belong to root, as docker's cp makes them unless asked to keep the owner."""

    def add(self, entry: tarfile.TarInfo, content: IO[bytes] | None = None) -> None:
        """Append one entry, as root's."""
        entry.uid = entry.gid = 0
        TreeWriter.add(self, entry, content)


def look(state: ContainerState, spec: Spec, path: str, *, follow: bool = False) -> PathStat | None:
    """Return what is at a path of a container, None if nothing is; ``follow`` goes through a link at its end.

    Raises:
        FileError: the container's root cannot be entered.
    """

    def tell(target: BinaryIO) -> None:
        try:
            found = os.stat(path) if follow else os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return
        link = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
        fields = (os.path.basename(path.rstrip("/")) or "/", found.st_size, found.st_mode, found.st_mtime_ns, link)
        target.write(json.dumps(fields).encode())

    with reading(state, spec, tell) as source:
        text = source.read()
    if not text:
        return None
    name, size, mode, mtime_ns, link_target = json.loads(text)
    return PathStat(name=name, size=size, mode=mode, mtime_ns=mtime_ns, link_target=link_target)


def pack_path(path: str, name: str, *, follow: bool, keeps_owner: bool) -> Callable[[BinaryIO], None]:
    """Return what writes the tree at a path as a tar in which it is called ``name`` ("." for its content alone)."""

    def pack(target: BinaryIO) -> None:
        top = os.path.realpath(path) if follow else path
        with writing_tree(target) as writer:
            if not keeps_owner:
                writer = OwnedWriter(writer._tar, writer._links)
            for found in walk(top):
                writer.add_found(found, os.path.join(name, found.path) if found.path else name)

    return pack


def export_root(state: ContainerState, target: BinaryIO) -> None:
    """Write a container's whole root file system as a tar, without what is mounted in it.

    Raises:
        FileError: a file could not be read.
    """
    with _child(lambda: _enter_frozen(state), partial(write_tree, "/")) as source:
        while data := source.read(_REPORT_BYTES):
            target.write(data)


@contextmanager
def reading(state: ContainerState, spec: Spec, write: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    """Give what ``write`` writes while it is confined to the container's root.

    Raises:
        FileError: it failed, when the block ends.
    """
    with _child(lambda: _enter(state, spec), write) as source:
        yield source


@contextmanager
def reading_layers(layers: tuple[str, ...], mountpoint: str, write: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    """Give what ``write`` writes while it is confined to the files of an image, which nobody else sees mounted.

    Raises:
        FileError: it failed, when the block ends.
    """
    with _child(lambda: _enter_layers(layers, mountpoint), write) as source:
        yield source


@contextmanager
def packing_here(write: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    """Give what ``write`` writes in a process of its own, with the host's root: for files of the caller.

    Raises:
        FileError: it failed, when the block ends.
    """
    with _child(lambda: None, write) as source:
        yield source


def extract(
    state: ContainerState, spec: Spec, directory: str, source: BinaryIO, *, replaces_kinds: bool = False
) -> None:
    """Unpack a tar below an existing directory of a container; what is in the way is replaced.

    A file replaces a directory, and a directory a file, only if it ``replaces_kinds``.

    Raises:
        FileError: a file could not be made, or the archive is none.
    """

    def make(_: BinaryIO) -> None:
        limits = UnpackLimits()
        unpack(source, directory, limits, subject="the archive", whiteouts=False, replaces_kinds=replaces_kinds)

    with _child(lambda: _enter(state, spec), make) as nothing:
        nothing.read()


def attach(state: ContainerState, spec: Spec, source: int, destination: str, *, owner: tuple[int, int]) -> None:
    """Mount a detached mount at a path of a running container; ``owner`` is its root, who makes what is not there.

    Raises:
        FileError: it cannot be mounted there.
    """

    def move(_: BinaryIO) -> None:
        os.umask(0o022)
        user_namespace.become(*owner)
        if not os.path.exists(destination):
            _make_like(destination, source)
        flags = os.O_PATH | os.O_CLOEXEC
        target = openat2.openat2(os.open("/", flags), destination, flags, 0, _IN_ROOT)
        if stat.S_ISDIR(os.fstat(source).st_mode) != stat.S_ISDIR(os.fstat(target).st_mode):
            raise OSError(errno.ENOTDIR, _OTHER_KIND, destination)
        mount.move_mount(source, "", target, "", mount.MOVE_MOUNT_F_EMPTY_PATH | mount.MOVE_MOUNT_T_EMPTY_PATH)

    with _child(lambda: _enter(state, spec), move) as nothing:
        nothing.read()


def make_read_only(state: ContainerState, spec: Spec, path: str) -> None:
    """Let nothing be written to the mount at a path of a running container; what is mounted below it stays as it is.

    Raises:
        FileError: the kernel refused.
    """
    with _child(lambda: _enter(state, spec), lambda _: _make_read_only(mount.AT_FDCWD, path)) as nothing:
        nothing.read()


def detach(state: ContainerState, spec: Spec, paths: tuple[str, ...], *, lazily: bool) -> str:
    """Unmount what is mounted at paths of a running container, in this order; ``lazily`` also what is in use.

    Returns the path at which that ended because its mount is in use, "" if none is; what is not mounted is no error.

    Raises:
        FileError: the kernel refused.
    """

    def unmount(target: BinaryIO) -> None:
        flags = mount.UMOUNT_NOFOLLOW | (mount.MNT_DETACH if lazily else 0)
        for path in paths:
            found = os.path.realpath(path)
            if _is_of_the_kernel(found) and not _is_of_the_kernel(path):  # a link leads to what hides it
                raise OSError(errno.EPERM, os.strerror(errno.EPERM), path)
            try:
                mount.umount2(found, flags)
            except OSError as error:
                if error.errno == errno.EBUSY:
                    target.write(path.encode("utf-8", "surrogateescape"))
                    return
                if error.errno not in (errno.EINVAL, errno.ENOENT):
                    raise

    with _child(lambda: _enter(state, spec), unmount) as source:
        return source.read().decode("utf-8", "surrogateescape")


def _is_of_the_kernel(path: str) -> bool:
    return f"{path}/".startswith(("/proc/", "/sys/"))


@contextmanager
def _child(enter: Callable[[], None], act: Callable[[BinaryIO], None]) -> Iterator[BinaryIO]:
    (source, target), (report, failed) = os.pipe(), os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(source)
        _run_child(enter, act, target, failed)
    os.close(target)
    os.close(failed)
    try:
        with os.fdopen(source, "rb") as stream:
            yield stream
    finally:
        message = _drain(report)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if message or status:
        raise FileError(message or f"the process that works on the container's files has ended with {status}")


def _run_child(enter: Callable[[], None], act: Callable[[BinaryIO], None], target: int, failed: int) -> None:
    code = 1
    try:
        enter()
        with os.fdopen(target, "wb") as stream:
            act(stream)
        code = 0
    except BrokenPipeError:
        code = 0  # who reads has had enough
    except OSError as error:
        path = os.fsdecode(error.filename) if error.filename else ""
        os.write(failed, f"{path + ': ' if path else ''}{error.strerror or error}".encode()[:_REPORT_BYTES])
    except (LabError, tarfile.TarError, ValueError) as error:
        os.write(failed, str(error).encode()[:_REPORT_BYTES])
    finally:
        os._exit(code)


def _drain(report: int) -> str:
    with os.fdopen(report, "rb") as stream:
        return stream.read().decode(errors="replace")


def _enter(state: ContainerState, spec: Spec) -> None:
    """Make a container's root, with what is mounted in it, the root of this process."""
    if state.status == Status.RUNNING:
        pidfd = os.pidfd_open(state.pid)
        ns.setns(pidfd, ns.CLONE_NEWNS, path=f"mount namespace of {state.id}")  # its root becomes ours
        os.chdir("/")
        return
    if os.statvfs(state.upper).f_flag & os.ST_RDONLY:
        root = _mount_frozen(state)
    else:
        root = state.rootfs
        _own_mounts()
        overlay.mount_overlay(state.layers, state.upper, state.work, root, False)
    binds = [each for each in spec.mounts if each.type == "bind"]
    _mount_volumes(binds)
    sources = [bind_source.clone(bind.source, bind_source.subpath_of(bind.options), recursive=True) for bind in binds]
    os.chroot(root)
    os.chdir("/")
    for bind, source in zip(binds, sources, strict=True):
        _attach(bind, source)
    if spec.root.readonly:
        _make_read_only(mount.AT_FDCWD, "/")


def _mount_volumes(binds: list[Mount]) -> None:
    """Mount the volumes among the binds of a container that have to be, for this process alone."""
    directories = {os.path.split(bind.source)[0] for bind in binds if os.path.basename(bind.source) == "_data"}
    if directories:
        from lab.container.volumes import mounting  # which leads to this file, by way of what fills volumes

        for directory in sorted(directories):
            mounting.mount_found(directory)


def _make_read_only(descriptor: int, path: str) -> None:
    mount.mount_setattr(descriptor, path, mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_RDONLY, 0, 0)


def _attach(bind: Mount, source: int) -> None:
    if {"ro", bind_source.READ_ONLY_TOP} & set(bind.options):
        _make_read_only(source, "")
    try:
        if not os.path.exists(bind.destination):  # as the container's first start would make it
            _make_like(bind.destination, source)
        mount.move_mount(source, "", mount.AT_FDCWD, bind.destination, mount.MOVE_MOUNT_F_EMPTY_PATH)
    except OSError as error:
        if error.errno != errno.EROFS:  # else nothing can be made there, and the rest can be looked at
            raise
    finally:
        os.close(source)


def _make_like(destination: str, source: int) -> None:
    os.makedirs(os.path.dirname(destination), exist_ok=True)
    if stat.S_ISDIR(os.fstat(source).st_mode):
        os.mkdir(destination)
    else:
        os.close(os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))


def _enter_frozen(state: ContainerState) -> None:
    """Make a read-only view of a container's layers, running or not, the root of this process."""
    os.chroot(_mount_frozen(state))
    os.chdir("/")


def _mount_frozen(state: ContainerState) -> str:
    """Mount a read-only view of a container's layers, its own included, and return where; no disk is written."""
    _own_mounts()
    return _overlay_in_memory((state.upper, *state.layers), state.rootfs)


def _overlay_in_memory(lower: tuple[str, ...], mountpoint: str, *, user_attributes: bool = False) -> str:
    mount.mount("tmpfs", mountpoint, "tmpfs", 0, "mode=755")
    upper, work, root = (os.path.join(mountpoint, name) for name in ("upper", "work", "root"))
    for directory in (upper, work, root):
        os.mkdir(directory, 0o755)
    overlay.mount_overlay(lower, upper, work, root, False, user_attributes=user_attributes)
    _make_read_only(mount.AT_FDCWD, root)
    return root


def _enter_layers(layers: tuple[str, ...], mountpoint: str) -> None:
    """Make a read-only view of an image's layers the root of this process, also of an ordinary user's."""
    uid, gid = os.geteuid(), os.getegid()
    if uid:
        ns.unshare(ns.CLONE_NEWUSER | ns.CLONE_NEWNS)
        uid_map, gid_map = (idmap.text(((0, each, 1),)) for each in (uid, gid))
        idmap.write_maps(os.getpid(), uid_map, gid_map, deny_setgroups=True)
    else:
        _own_mounts()
    os.chroot(_overlay_in_memory(layers, mountpoint, user_attributes=bool(uid)))
    os.chdir("/")


def _own_mounts() -> None:
    ns.unshare(ns.CLONE_NEWNS)
    mount.mount("", "/", "", mount.MS_REC | mount.MS_PRIVATE, "")
