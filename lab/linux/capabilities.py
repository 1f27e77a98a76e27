"""Capabilities: their names and numbers, the bounding set, capset(2).

Source: man capabilities(7), linux/capability.h.
"""

from __future__ import annotations

import struct

NAMES = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""Every capability, at the index that is its number."""

_VERSION_3 = 0x20080522


def mask(names: tuple[str, ...]) -> int:
    """Return the bit mask of capability names.

    Raises:
        ValueError: a name is not a capability.
    """
    bits = 0
    for name in names:
        bits |= 1 << NAMES.index(name)
    return bits


def names(bits: int) -> tuple[str, ...]:
    """Return the names of a bit mask, by number; bits newer than this table are left out."""
    return tuple(name for number, name in enumerate(NAMES) if bits >> number & 1)


def bounding_set(status: str = "/proc/self/status") -> int:
    """Return the bit mask CapBnd of a process: what it, and all that it starts, can ever have.

    Raises:
        OSError: with errno and path.
    """
    with open(status, encoding="utf-8") as lines:
        return next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))


def capset_arguments(effective: int, permitted: int, inheritable: int) -> tuple[bytes, bytes]:
    """Return what capset(2) takes: its header, for the calling thread, and the sets."""
    header = struct.pack("=Ii", _VERSION_3, 0)
    low = [bits & 0xFFFFFFFF for bits in (effective, permitted, inheritable)]
    high = [bits >> 32 for bits in (effective, permitted, inheritable)]
    return header, struct.pack("=6I", *low, *high)
