"""Seccomp filters: what the kernel takes, and compiling rules into one through libseccomp.

Source: man seccomp(2), seccomp_rule_add(3).
"""

from __future__ import annotations

import os
import struct

from lab.linux.libc import address_of_bytes, load_library

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_LOG = 2
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4

SCMP_ACT_KILL_PROCESS = 0x80000000
SCMP_ACT_KILL = 0
SCMP_ACT_TRAP = 0x00030000
SCMP_ACT_ERRNO = 0x00050000  # | errno
SCMP_ACT_TRACE = 0x7FF00000  # | number for the tracer
SCMP_ACT_LOG = 0x7FFC0000
SCMP_ACT_ALLOW = 0x7FFF0000

SCMP_CMP_NE, SCMP_CMP_LT, SCMP_CMP_LE, SCMP_CMP_EQ, SCMP_CMP_GE, SCMP_CMP_GT, SCMP_CMP_MASKED_EQ = range(1, 8)

_SCMP_FLTATR_CTL_NNP = 3
_SCMP_FLTATR_CTL_OPTIMIZE = 8
_LIBRARY = "libseccomp.so.2"
_EEXIST, _EINVAL = 17, 22
_PROTOTYPES = {
    "seccomp_version": "p",
    "seccomp_init": "pu",
    "seccomp_release": "vp",
    "seccomp_arch_resolve_name": "us",
    "seccomp_arch_add": "ipu",
    "seccomp_attr_set": "ipuu",
    "seccomp_syscall_resolve_name": "is",
    "seccomp_syscall_resolve_name_arch": "ius",
    "seccomp_rule_add_array": "ipuius",
    "seccomp_export_bpf": "ipi",
}


def pointer_to(program: bytes) -> bytes:
    """Return a ``struct sock_fprog``; the caller keeps the program alive."""
    return struct.pack("=HxxxxxxQ", len(program) // 8, address_of_bytes(program))


class Filter:
    """A filter in the making, in libseccomp; to be closed."""

    def __init__(self, default_action: int) -> None:
        """Start a filter for this machine's architecture.

        Raises:
            OSError: libseccomp is not there, or does not take the action.
        """
        self._call: Mapping[str, Callable[..., int]] = load_library(_LIBRARY, _PROTOTYPES)
        self._context = self._call["seccomp_init"](default_action)
        if not self._context:
            raise OSError(_EINVAL, "seccomp_init: invalid default action", hex(default_action))
        # Otherwise the load would set no_new_privs; we only export, but the attribute should say what we mean.
        self._check(self._call["seccomp_attr_set"](self._context, _SCMP_FLTATR_CTL_NNP, 0), "CTL_NNP")
        # A binary tree: at every installation the kernel runs the filter for each call once, to fill its cache.
        self._call["seccomp_attr_set"](self._context, _SCMP_FLTATR_CTL_OPTIMIZE, 2)  # EINVAL before libseccomp 2.5

    def close(self) -> None:
        """Free the filter."""
        self._call["seccomp_release"](self._context)

    def add_architecture(self, name: str) -> None:
        """Let the rules hold for another architecture of this machine as well ("x86", "x32"); once more is no error.

        Raises:
            OSError: with errno and ``name``.
        """
        token = self._call["seccomp_arch_resolve_name"](name.encode())
        if not token:  # which would stand for the machine's own
            raise OSError(_EINVAL, "libseccomp: no such architecture", name)
        result = self._call["seccomp_arch_add"](self._context, token)
        if result != -_EEXIST:
            self._check(result, name)

    def resolve(self, syscall_name: str) -> int | None:
        """Return a system call's number (negative: a pseudo number of another architecture); None if not known."""
        number = self._call["seccomp_syscall_resolve_name"](syscall_name.encode())
        return None if number == -1 else number

    def resolve_for(self, architecture: str, syscall_name: str) -> int | None:
        """Return a system call's number on another architecture of this machine; None where it does not have it."""
        token = self._call["seccomp_arch_resolve_name"](architecture.encode())
        number = self._call["seccomp_syscall_resolve_name_arch"](token, syscall_name.encode())
        return None if number < 0 else number

    def add_rule(self, action: int, number: int, comparisons: Iterable[tuple[int, int, int, int]]) -> None:
        """Add a rule; each comparison is (argument index, SCMP_CMP_*, value, second value), and all must hold.

        Raises:
            OSError: with errno and the number.
        """
        packed = [struct.pack("=IIQQ", *comparison) for comparison in comparisons]
        result = self._call["seccomp_rule_add_array"](self._context, action, number, len(packed), b"".join(packed))
        self._check(result, f"syscall {number}")

    def export(self) -> bytes:
        """Return the filter as a program of classic BPF.

        Raises:
            OSError: with errno.
        """
        descriptor = os.memfd_create("seccomp")
        try:
            self._check(self._call["seccomp_export_bpf"](self._context, descriptor), "export")
            return os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        finally:
            os.close(descriptor)

    def _check(self, result: int, subject: str) -> None:
        if result < 0:
            raise OSError(-result, f"libseccomp: {os.strerror(-result)}", subject)
