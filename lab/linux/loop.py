"""Loop devices: a file as a block device. Source: man loop(4), linux/include/uapi/linux/loop.h."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LO_FLAGS_AUTOCLEAR = 4

_CONTROL = "/dev/loop-control"
_BLOCK = "/sys/block"
_CTL_GET_FREE = 0x4C82
_CONFIGURE = 0x4C0A
_GET_STATUS64 = 0x4C05
_STATUS_BYTES = 232
_INODE_OFFSET = 8
_FLAGS_OFFSET = 52
_CONFIG = struct.Struct(f"=II{_STATUS_BYTES}s64x")  # descriptor, block size, struct loop_info64
_ATTEMPTS = 64  # others take free devices as well


@contextmanager
def device(path: str) -> Iterator[str]:
    """Give the device of a file, the one that it has or a free one, which stays at least for the block.

    It goes by itself with its last user: the block, or what is mounted from it.

    Raises:
        OSError: with errno and path; ENOENT for /dev/loop-control where the kernel has none.
    """
    name, descriptor = _found(path) or _attached(path)
    try:
        yield name
    finally:
        os.close(descriptor)


def devices(path: str) -> tuple[str, ...]:
    """Return the devices that a file has now; none unless something has gone wrong, or it is in use."""
    inner = os.path.realpath(path)
    found = (name for name in sorted(os.listdir(_BLOCK)) if name.startswith("loop"))
    return tuple(os.path.join("/dev", name) for name in found if _backing_file(name) == inner)


def _backing_file(name: str) -> str:
    try:
        with open(os.path.join(_BLOCK, name, "loop/backing_file"), encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:  # it has none, or has gone
        return ""


def _found(path: str) -> tuple[str, int] | None:
    for name in devices(path):
        descriptor = _open(name)
        if _inode(descriptor) == os.stat(path).st_ino:  # and from now on it stays
            return name, descriptor
        os.close(descriptor)
    return None


def _inode(descriptor: int) -> int:
    status = bytearray(_STATUS_BYTES)
    with suppress(OSError):  # ENXIO: it has been let go of meanwhile
        fcntl.ioctl(descriptor, _GET_STATUS64, status)
    return int.from_bytes(status[_INODE_OFFSET : _INODE_OFFSET + 8], "little")


def _attached(path: str) -> tuple[str, int]:
    status = bytearray(_STATUS_BYTES)
    status[_FLAGS_OFFSET : _FLAGS_OFFSET + 4] = LO_FLAGS_AUTOCLEAR.to_bytes(4, "little")
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            name = _free()
            descriptor = _open(name)
            try:
                fcntl.ioctl(descriptor, _CONFIGURE, _CONFIG.pack(file, 0, bytes(status)))
            except OSError as error:
                os.close(descriptor)
                if error.errno != errno.EBUSY:
                    raise OSError(error.errno, error.strerror, name) from None
            else:
                return name, descriptor
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), _CONTROL)
    finally:
        os.close(file)


def _free() -> str:
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        return f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}"
    except OSError as error:
        raise OSError(error.errno, error.strerror, _CONTROL) from None
    finally:
        os.close(control)


def _open(name: str) -> int:
    if not os.path.exists(name):  # where nobody makes the nodes of devices that come later
        with open(os.path.join(_BLOCK, os.path.basename(name), "dev"), encoding="ascii") as file:
            major, _, minor = file.read().strip().partition(":")
        with suppress(FileExistsError):
            os.mknod(name, stat.S_IFBLK | 0o600, os.makedev(int(major), int(minor)))
    return os.open(name, os.O_RDWR | os.O_CLOEXEC)
