"""Maps of user and group ids: those of a user namespace, and those of a mount.

Source: man user_namespaces(7), mount_setattr(2) "ID-mapped mounts".
"""

from __future__ import annotations

import os
import struct

from lab.linux import mount
from lab.linux.libc import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def text(ranges: Iterable[tuple[int, int, int]]) -> str:
    """Return ranges (first id inside, first id outside, size) as uid_map takes them."""
    return "".join(f"{inside} {outside} {size}\n" for inside, outside, size in ranges)


def write_maps(pid: int, uid_map: str, gid_map: str, *, deny_setgroups: bool) -> None:
    """Map the ids of the user namespace of a process, once; who is not root has to deny setgroups to map groups.

    Raises:
        OSError: with errno and path.
    """
    _write(f"/proc/{pid}/uid_map", uid_map)
    if deny_setgroups:
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/gid_map", gid_map)


def _write(path: str, content: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, content.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    finally:
        os.close(descriptor)


def set_mount(descriptor: int, flags: int, user_namespace: int, *, path: str) -> None:
    """Show a detached mount's files with the ids of a user namespace; ``path`` is for errors.

    ``flags`` are AT_EMPTY_PATH, and AT_RECURSIVE for all mounts below.

    Raises:
        OSError: with errno and ``path``; EINVAL for a file system that cannot.
    """
    attributes = struct.pack("=QQQQ", mount.MOUNT_ATTR_IDMAP, 0, 0, user_namespace)
    syscall("mount_setattr", descriptor, b"", flags, attributes, len(attributes), path=path)
