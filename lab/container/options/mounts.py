"""--tmpfs, and where nothing may be mounted; binds and volumes are ``container/volumes.py``'s.

Source: docs.docker.com/engine/storage/tmpfs; man tmpfs(5).
"""

from __future__ import annotations

import os

from lab.container.spec.runtime import Mount
from lab.errors import SpecError

PROPAGATIONS = frozenset(("private", "rprivate", "slave", "rslave", "shared", "rshared"))
"""How mounts that are made later spread between a bind and the host."""

_TMPFS_DEFAULTS = ("noexec", "nosuid", "nodev")
_OPPOSITES = {"exec": "noexec", "suid": "nosuid", "dev": "nodev", "rw": "ro"}
_FLAGS = frozenset(
    ("ro", "rw", "nosuid", "suid", "nodev", "dev", "noexec", "exec", "noatime", "relatime", "strictatime")
)
_SETTINGS = frozenset(("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"))
_PROC_FILES = frozenset(
    ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "uptime")
)


def tmpfs(text: str) -> Mount:
    """Return "PATH[:OPTIONS]" as a mount; options are flags, where the later counts, and the file system's own.

    Raises:
        SpecError: the path is not absolute, or an option is none.
    """
    path, _, options = text.partition(":")
    check_destination(path)
    wanted = [option for option in options.split(",") if option]
    unknown = [option for option in wanted if option not in _FLAGS and option.partition("=")[0] not in _SETTINGS]
    if unknown:
        words = " ".join(f'"{word}"' for word in unknown[0].split("="))
        raise SpecError(f"invalid tmpfs option [{words}]")
    kept = [*_TMPFS_DEFAULTS]
    for option in wanted:
        contrary = {_OPPOSITES.get(option), *(name for name, other in _OPPOSITES.items() if other == option)}
        kept = [other for other in kept if other not in contrary and other != option]
        kept += [option] if option not in _OPPOSITES else []
    return Mount(destination=os.path.normpath(path), type="tmpfs", source="tmpfs", options=tuple(kept))


def check_destination(path: str) -> None:
    """See that a user's mount may be at a path of the container.

    Raises:
        SpecError: it is not absolute, or would cover the root or what the kernel says in /proc.
    """
    if not os.path.isabs(path):
        raise SpecError(f"invalid mount path: '{path}' mount path must be absolute")
    inner = os.path.normpath("/" + path.lstrip("/"))
    if inner == "/":
        raise SpecError("invalid specification: destination can't be '/'")
    below = os.path.relpath(inner, "/proc")
    if below == "." or (not below.startswith("..") and below not in _PROC_FILES):
        raise SpecError(f'check proc-safety of "{inner}" mount: "{inner}" cannot be mounted because it is inside /proc')
