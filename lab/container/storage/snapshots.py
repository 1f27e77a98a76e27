"""A container's writable file system: overlay over unpacked layers."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from lab.container.storage.overlay import mount_overlay as overlay_mount
from lab.errors import KernelError
from lab.linux import mount

_OCTAL = re.compile(r"\\([0-7]{3})")


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
        overlay_mount(overlay.lower, overlay.upper, overlay.work, target, overlay.volatile)
    except OSError as error:
        raise _refused(overlay, target, error) from error


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


def _refused(overlay: Overlay, target: str, error: OSError) -> KernelError:
    hint = "overlay mounts need root" if error.errno == errno.EPERM else ""
    if os.path.exists(os.path.join(overlay.work, "work", "incompat", "volatile")):
        hint = f"the upper directory was mounted volatile before: remove {overlay.work}/work/incompat/volatile"
    return KernelError("mount overlay at", target, error.strerror or str(error), hint=hint)
