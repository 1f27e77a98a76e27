"""A container's writable file system: overlay over unpacked layers."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lab.errors import KernelError
from lab.linux import mount

# The kernel's defaults for these are its builder's choice. Off, a directory that was renamed, or a file of which only
# the mode changed, is copied up whole: the upper directory can then be packed as a layer, and moved to another host.
_OCTAL = re.compile(r"\\([0-7]{3})")
_OPTIONS = (("redirect_dir", "off"), ("metacopy", "off"), ("index", "off"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """Layers (topmost first) below a writable directory; ``work`` is empty and on the file system of ``upper``.

    ``volatile`` leaves out every fsync; after a crash, or before another mount of the same upper directory,
    ``work/incompat/volatile`` has to go. Source: kernel Documentation/filesystems/overlayfs.rst.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    volatile: bool = False


def mount_overlay(overlay: Overlay, target: str) -> None:
    """Mount ``overlay`` at ``target`` in this mount namespace.

    Raises:
        KernelError: the kernel refused, with its own explanation where it gave one.
    """
    try:
        _mount_by_context(overlay, target)
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EINVAL):
            raise _refused(overlay, target, error) from error
        _mount_classic(overlay, target, error)


def unmount(target: str) -> None:
    """Unmount ``target``; what is still open in it goes with its last user. Not being mounted is no error.

    Raises:
        KernelError: the kernel refused.
    """
    try:
        mount.umount2(target, mount.MNT_DETACH | mount.UMOUNT_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOENT):
            raise KernelError("unmount", target, os.strerror(error.errno or 0)) from error


def unmount_below(directory: str) -> None:
    """Unmount whatever this mount namespace has at ``directory`` and below it, the last mounted first.

    Raises:
        KernelError: the kernel refused.
    """
    for target in reversed(mount_points_below(directory)):
        unmount(target)


def mount_points_below(directory: str) -> tuple[str, ...]:
    """Return the mount points at ``directory`` and below it, in the order of mounting.

    Source: man proc_pid_mountinfo(5), which writes spaces and the like as octal numbers.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        points = [_OCTAL.sub(lambda match: chr(int(match[1], 8)), line.split()[4]) for line in lines]
    return tuple(point for point in points if point == directory or point.startswith(f"{directory}/"))


def _mount_by_context(overlay: Overlay, target: str) -> None:
    context = mount.fsopen("overlay", mount.FSOPEN_CLOEXEC)
    try:
        for key, value in _settings(overlay):
            mount.fsconfig_set_string(context, key, value)
        if overlay.volatile:
            mount.fsconfig_set_flag(context, "volatile")
        mount.fsconfig_create(context, target)
        descriptor = mount.fsmount(context, mount.FSMOUNT_CLOEXEC, mount.MOUNT_ATTR_RELATIME)
    finally:
        os.close(context)
    try:
        mount.move_mount(descriptor, "", mount.AT_FDCWD, target, mount.MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(descriptor)


def _settings(overlay: Overlay) -> Iterator[tuple[str, str]]:
    yield "source", "overlay"
    for directory in overlay.lower:
        yield "lowerdir+", directory  # one by one: no limit of a page, and no character is special
    yield "upperdir", overlay.upper
    yield "workdir", overlay.work
    yield from _OPTIONS


def _mount_classic(overlay: Overlay, target: str, first: OSError) -> None:
    """Mount with mount(2), for kernels before 6.8 (no ``lowerdir+``); ``first`` explains better if that fails too."""
    try:
        mount.mount("overlay", target, "overlay", 0, classic_options(overlay))
    except OSError as error:
        raise _refused(overlay, target, error if first.errno == errno.ENOSYS else first) from error


def classic_options(overlay: Overlay) -> str:
    """Return the option string of mount(2), in which ``\\``, ``:`` and ``,`` of paths are escaped."""
    options = [
        "lowerdir=" + ":".join(_escaped(path) for path in overlay.lower),
        "upperdir=" + _escaped(overlay.upper),
        "workdir=" + _escaped(overlay.work),
        *(f"{key}={value}" for key, value in _OPTIONS),
    ]
    return ",".join(options + ["volatile"] * overlay.volatile)


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _refused(overlay: Overlay, target: str, error: OSError) -> KernelError:
    hint = "overlay mounts need root" if error.errno == errno.EPERM else ""
    if os.path.exists(os.path.join(overlay.work, "work", "incompat", "volatile")):
        hint = f"the upper directory was mounted volatile before: remove {overlay.work}/work/incompat/volatile"
    return KernelError("mount overlay at", target, error.strerror or str(error), hint=hint)
