"""The source of a bind, opened: a path of the host, or one beneath a volume, out of which no link leads.

What is beneath a volume belongs to the containers that write there: a directory may become a link at any moment. So it
is found by the kernel when it is mounted, from the volume's own directory on and never above it, and what is mounted is
what was found. This file is imported by the spawner: nothing heavy here.

Source: man openat2(2); mount(8) for the name of the option.
"""

from __future__ import annotations

import os
import struct

from lab.linux import mount, openat2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

READ_ONLY_TOP = "ro-top"
"""The option of a bind that is read-only, while what is mounted below its source is as it is there."""

REASONS = {
    18: "the subpath leads out of the volume",  # EXDEV
    40: "the subpath leads out of the volume",  # ELOOP: a link of /proc, or one to itself
    11: "the subpath was being moved: try again",  # EAGAIN
}
"""Why a subpath was not opened, by errno, where the kernel's own words would not tell."""

RESOLVE = openat2.RESOLVE_BENEATH | openat2.RESOLVE_NO_MAGICLINKS
FLAGS = os.O_PATH | os.O_CLOEXEC
HOW = struct.pack("=QQQ", FLAGS, 0, RESOLVE)
"""The ``struct open_how`` of a subpath."""

_SUBPATH = "X-mount.subdir="


def subpath_option(subpath: str) -> str:
    """Return the option of a bind whose source is a volume's directory, of which only ``subpath`` is mounted."""
    return _SUBPATH + subpath


def subpath_of(options: Iterable[str]) -> str:
    """Return the subpath of a bind, "" for the whole source."""
    return next((option[len(_SUBPATH) :] for option in options if option.startswith(_SUBPATH)), "")


def clone(source: str, subpath: str, *, recursive: bool) -> int:
    """Return a descriptor of a detached copy of the mount at a path, with ``recursive`` of all below it as well.

    Raises:
        OSError: with errno and path.
    """
    flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC | (mount.AT_RECURSIVE if recursive else 0)
    if not subpath:
        return mount.open_tree(mount.AT_FDCWD, source, flags)
    base = os.open(source, FLAGS | os.O_DIRECTORY)
    try:
        found = openat2.openat2(base, subpath, FLAGS, 0, RESOLVE)
    except OSError as error:
        raise OSError(error.errno, REASONS.get(error.errno or 0, error.strerror), f"{source}/{subpath}") from None
    finally:
        os.close(base)
    try:
        return mount.open_tree(found, "", flags | mount.AT_EMPTY_PATH)
    finally:
        os.close(found)
