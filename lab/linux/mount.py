"""Mounts: the calls of man mount(2), umount2(2), pivot_root(2) and of the mount API of Linux 5.2, one function each.

Flags are plain integers with the names of the man pages. Paths may be text; file descriptors are integers.
"""

from __future__ import annotations

import os
import struct

from lab.linux.libc import syscall

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_SYNCHRONOUS = 16
MS_REMOUNT = 32
MS_DIRSYNC = 128
MS_NOATIME = 1024
MS_NODIRATIME = 2048
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_STRICTATIME = 1 << 24

MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC

FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_SET_FD = 5
FSCONFIG_CMD_CREATE = 6

MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_IDMAP = 0x100000


def mount(source: str, target: str, fstype: str, flags: int, data: str) -> None:
    """Mount with the classic call; ``data`` is the file system's option string, at most a page.

    Raises:
        OSError: with errno and ``target``.
    Source: man mount(2).
    """
    syscall(
        "mount",
        os.fsencode(source) or None,
        os.fsencode(target),
        fstype.encode() or None,
        flags,
        os.fsencode(data) or None,
        path=target,
    )


def umount2(target: str, flags: int) -> None:
    """Unmount what is mounted at ``target``.

    Raises:
        OSError: with errno and ``target``.
    Source: man umount2(2).
    """
    syscall("umount2", os.fsencode(target), flags, path=target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Make ``new_root`` the root mount of this namespace and put the old one at ``put_old``.

    Raises:
        OSError: with errno and ``new_root``.
    Source: man pivot_root(2).
    """
    syscall("pivot_root", os.fsencode(new_root), os.fsencode(put_old), path=new_root)


def fsopen(fstype: str, flags: int) -> int:
    """Return the descriptor of a new, unconfigured file system context.

    Raises:
        OSError: with errno and the file system's name.
    Source: man fsopen(2).
    """
    return syscall("fsopen", fstype.encode(), flags, path=fstype)


def fsconfig_set_string(context: int, key: str, value: str) -> None:
    """Set an option that has a value.

    Raises:
        OSError: with errno and "key=value".
    """
    syscall("fsconfig", context, FSCONFIG_SET_STRING, key.encode(), os.fsencode(value), 0, path=f"{key}={value}")


def fsconfig_set_flag(context: int, key: str) -> None:
    """Set an option that has no value.

    Raises:
        OSError: with errno and ``key``.
    """
    syscall("fsconfig", context, FSCONFIG_SET_FLAG, key.encode(), None, 0, path=key)


def fsconfig_create(context: int, subject: str) -> None:
    """Create the superblock that the context describes; ``subject`` names it in errors.

    Raises:
        OSError: with errno, ``subject`` and what the kernel wrote into the context's log.
    """
    try:
        syscall("fsconfig", context, FSCONFIG_CMD_CREATE, None, None, 0, path=subject)
    except OSError as error:
        log = read_log(context)
        raise OSError(error.errno, f"{error.strerror} ({log})" if log else error.strerror, subject) from None


def read_log(context: int) -> str:
    """Return the messages that a file system context has collected, one per line, without their level."""
    lines: list[str] = []
    while True:
        try:
            message = os.read(context, 4096)
        except OSError:
            return "\n".join(lines)  # ENODATA: there are no more
        if not message:
            return "\n".join(lines)
        lines.append(message.decode(errors="replace").strip().removeprefix("e ").removeprefix("w "))


def fsmount(context: int, flags: int, attributes: int) -> int:
    """Return the descriptor of a detached mount of a created context; ``attributes`` are MOUNT_ATTR_*.

    Raises:
        OSError: with errno.
    Source: man fsmount(2).
    """
    return syscall("fsmount", context, flags, attributes)


def move_mount(from_fd: int, from_path: str, to_fd: int, to_path: str, flags: int) -> None:
    """Attach a detached mount, or move an attached one.

    Raises:
        OSError: with errno and ``to_path``.
    Source: man move_mount(2).
    """
    syscall("move_mount", from_fd, os.fsencode(from_path), to_fd, os.fsencode(to_path), flags, path=to_path)


def open_tree(directory_fd: int, path: str, flags: int) -> int:
    """Return a descriptor of the mount at ``path``, or with OPEN_TREE_CLONE of a detached copy of it.

    Raises:
        OSError: with errno and ``path``.
    Source: man open_tree(2).
    """
    return syscall("open_tree", directory_fd, os.fsencode(path), flags, path=path)


def mount_setattr(directory_fd: int, path: str, flags: int, attr_set: int, attr_clr: int, propagation: int) -> None:
    """Change the attributes of a mount, and with AT_RECURSIVE of all below it in one step.

    Raises:
        OSError: with errno and ``path``.
    Source: man mount_setattr(2).
    """
    changes = attributes(attr_set, attr_clr, propagation)
    syscall("mount_setattr", directory_fd, os.fsencode(path), flags, changes, len(changes), path=path)


def attributes(attr_set: int, attr_clr: int, propagation: int) -> bytes:
    """Return a ``struct mount_attr`` without a user namespace."""
    return struct.pack("=QQQQ", attr_set, attr_clr, propagation, 0)
