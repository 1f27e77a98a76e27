"""A step between clone and exec as data: the system calls that it makes, and little more than that.

A program is a sequence of instructions without loops or jumps back: calls whose results may be kept in slots, tests
that skip what comes next, and a few operations for which calls alone do not do. ``machine.c`` carries an assembled one
out in a child that executes no Python; ``interpreter.py`` carries out the same instructions where there is no compiler,
or where a plan has a step of another kind. Nothing here does anything.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import TypeAlias

    Operand: TypeAlias = "int | str | bytes | Slot | Buffer | Vector | Filter | None"
    Instruction: TypeAlias = "tuple[str, tuple[object, ...], int, int, Words]"
    """Kind or name of a system call, operands, slot of the result (-1: none), tolerated errnos, words of a failure."""
    Program: TypeAlias = Iterator[Instruction]

CALL = "call"
SKIP_UNLESS, LOAD, FAIL, MARK, EXECUTING = "skip_unless", "load", "fail", "mark", "executing"
MAKE_DESTINATION, FIND_HOME, EXCHANGE = "make_destination", "find_home", "exchange"
SEND_DESCRIPTOR, FIND_USER = "send_descriptor", "find_user"

NOTHING = 0
ANY = (1 << 64) - 1
"""Every error is tolerated."""

_FORMAT = 0o170000
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH = -100, 0x100, 0x1000
_STATX_TYPE_AND_MODE = 0x3
_STATX_MODE = 28  # offset in struct statx, the same on every architecture
_STATX_NODE = 128  # its major number as a device, then its minor one
_STATX_DEVICE = 136  # its major number, then its minor one
DIRECTORY, FIFO, CHARACTER = 0o040000, 0o010000, 0o020000
_SAYS_CALL = frozenset((
    "capset", "fsconfig", "fsmount", "fsopen", "getcwd", "ioctl", "mount", "mount_setattr", "move_mount", "open_tree",
    "pivot_root", "prctl", "seccomp", "setdomainname", "sethostname", "setns", "umount2", "unshare",
))  # fmt: skip


class Slot(int):
    """The number of a slot: stands for what is in it."""


class Buffer(int):
    """The number of a buffer of ``BUFFER_BYTES``: stands for its address."""


BUFFER_BYTES = 4096


class Vector(tuple[bytes | None, ...]):
    """Stands for an array of pointers to these texts, ended by NULL; None is what ``find_home`` has found."""

    __slots__ = ()


class Filter(bytes):
    """A program of classic BPF: stands for a ``struct sock_fprog``."""


class Words:
    """What a failure says: of what path, and what else than the kernel's own words.

    ``reasons`` are by errno; ``log`` is the slot of a file system context, whose messages are added.
    """

    __slots__ = ("call", "log", "path", "reasons")

    def __init__(self, call: str, path: str, reasons: Mapping[int, str], log: int) -> None:
        self.call, self.path, self.reasons, self.log = call, path, reasons, log

    def flatten(self) -> tuple[str, dict[int, str], str]:
        """Return (call to be named or "", reasons, path), as a failure is told by."""
        return (self.call if self.call in _SAYS_CALL else "", dict(self.reasons), self.path)


def tolerated(*errnos: int) -> int:
    """Return the mask of errors after which a program goes on, with the negative errno as the result."""
    return sum(1 << errno for errno in errnos)


def call(
    name: str,
    *operands: Operand,
    keep: int = -1,
    tolerate: int = NOTHING,
    path: str = "",
    reasons: Mapping[int, str] = {},
    log: int = -1,
) -> Instruction:
    """Return a system call; text and bytes are passed as pointers to memory that ends in NUL."""
    return (name, operands, keep, tolerate, Words(name, path, reasons, log))


def fail(errno: int, reason: str, path: str) -> Instruction:
    """Return the end of a program that cannot go on."""
    return (FAIL, (errno,), -1, NOTHING, Words(FAIL, path, {errno: reason}, -1))


def operation(kind: str, *operands: Operand, path: str = "") -> Instruction:
    """Return an operation that is more than one system call."""
    return (kind, operands, -1, NOTHING, Words(kind, path, {}, -1))


def find_user(
    user: str, additional_groups: tuple[str, ...], *, groups: int, uid: int, gid: int, count: int
) -> Instruction:
    """Return the look-up of "USER[:GROUP]" in the root's own files, by the rules of ``user_database``.

    The numbers of all its groups go to the buffer ``groups``, how many there are to the slot ``count``.
    """
    added = Vector(os.fsencode(group) for group in additional_groups)
    return (FIND_USER, (user, added, Buffer(groups), gid, count), uid, NOTHING, Words(FIND_USER, "", {}, -1))


def load(buffer: int, offset: int, width: int, *, keep: int) -> Instruction:
    """Return the reading of a number of 1, 2 or 4 bytes from a buffer into a slot."""
    return (LOAD, (buffer, offset, width), keep, NOTHING, Words(LOAD, "", {}, -1))


def when(slot: int, value: Operand, program: Iterable[Instruction], *, mask: int = -1) -> Program:
    """Yield what is carried out only if a slot holds a value, after a mask."""
    inner = tuple(program)
    yield (SKIP_UNLESS, (Slot(slot), mask, value, len(inner)), -1, NOTHING, Words(SKIP_UNLESS, "", {}, -1))
    yield from inner


def look_at(path: str, *, mode: int, follow: bool = True) -> Program:
    """Yield the look at a path: type and permissions in slot ``mode``, or -ENOENT, which is of no type."""
    flags = 0 if follow else _AT_SYMLINK_NOFOLLOW
    operands = (_AT_FDCWD, path, flags, _STATX_TYPE_AND_MODE, Buffer(0))
    yield call("statx", *operands, keep=mode, tolerate=tolerated(2), path=path)
    yield from when(mode, 0, [load(0, _STATX_MODE, 2, keep=mode)])


def look_at_descriptor(descriptor: Operand, *, mode: int) -> Program:
    """Yield the look at an open file: its type and permissions in slot ``mode``, or whatever error, negative."""
    operands = (descriptor, "", _AT_EMPTY_PATH, _STATX_TYPE_AND_MODE, Buffer(0))
    yield call("statx", *operands, keep=mode, tolerate=ANY)
    yield from when(mode, 0, [load(0, _STATX_MODE, 2, keep=mode)])


def load_nothing(slot: int) -> Instruction:
    """Return the emptying of a slot."""
    return (LOAD, (0, 0, 0), slot, NOTHING, Words(LOAD, "", {}, -1))


def load_device(*, major: int, minor: int) -> Program:
    """Yield the reading of the device that holds the file that was looked at last."""
    yield load(0, _STATX_DEVICE, 4, keep=major)
    yield load(0, _STATX_DEVICE + 4, 4, keep=minor)


def is_format(slot: int, file_format: int, program: Iterable[Instruction]) -> Program:
    """Yield what is carried out only if the mode in a slot is of a kind of file."""
    return when(slot, file_format, program, mask=_FORMAT)


def load_node(*, major: int, minor: int) -> Program:
    """Yield the reading of the device that is the file that was looked at last."""
    yield load(0, _STATX_NODE, 4, keep=major)
    yield load(0, _STATX_NODE + 4, 4, keep=minor)


def is_other_format(slot: int, file_format: int, program: Iterable[Instruction]) -> Program:
    """Yield what is carried out only if the mode in a slot is not of a kind of file."""
    return unless(slot, file_format, program, mask=_FORMAT)


def unless(slot: int, value: Operand, program: Iterable[Instruction], *, mask: int = -1) -> Program:
    """Yield what is carried out only if a slot does not hold a value: what is, skips it."""
    inner = tuple(program)
    yield from when(slot, value, [_skip(len(inner))], mask=mask)
    yield from inner


def _skip(count: int) -> Instruction:
    return (SKIP_UNLESS, (0, -1, 1, count), -1, NOTHING, Words(SKIP_UNLESS, "", {}, -1))
