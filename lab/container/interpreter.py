"""Carries a program of ``program.py`` out in Python: where there is no compiler, and for plans with other steps.

It runs in the child of a one-threaded process between clone and exec, and raises ``OSError`` where ``machine.c`` would
end with a failure.
"""

from __future__ import annotations

import os
import stat
import struct

from lab.container import init, user_database
from lab.container import program as p
from lab.linux import libc, seccomp, sockets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SMALL_BYTES = (1 << 20) - 1
_ECONNRESET = 104
_PIPE_BYTES = 65536
_HOME = b"HOME="


class Interpreter:
    """The slots and buffers of one plan."""

    def __init__(self, tell_executing: Callable[[], None]) -> None:
        """``tell_executing`` is called right before the exec."""
        self._tell_executing = tell_executing
        self._slots: dict[int, int] = {}
        self._buffers = (bytearray(p.BUFFER_BYTES), bytearray(p.BUFFER_BYTES))
        self._home = _HOME + b"/"

    def carry_out(self, program: Iterable[p.Instruction]) -> None:
        """Carry a step out.

        Raises:
            OSError: with errno, reason and path.
        """
        instructions = iter(program)
        for name, operands, keep, tolerated, words in instructions:
            values = [self._value(operand) for operand in operands]
            if name == p.SKIP_UNLESS:
                found, mask, wanted, count = (int(value) for value in values)  # type: ignore[call-overload]
                for _ in range(0 if found & mask == wanted else count):
                    next(instructions)
            elif name in _OPERATIONS:
                self._operate(name, operands, values, keep, words)
            else:
                self._call(name, values, keep, tolerated, words)

    def _value(self, operand: object) -> object:
        if isinstance(operand, p.Slot):
            return self._slots.get(operand, 0)
        if isinstance(operand, p.Buffer):
            return self._buffers[operand]
        if isinstance(operand, p.Vector):
            return self._vector(operand)
        if isinstance(operand, p.Filter):
            return seccomp.pointer_to(operand)
        return os.fsencode(operand) if isinstance(operand, str) else operand

    def _vector(self, vector: p.Vector) -> bytes:
        pointers = [libc.address_of_bytes(self._home if text is None else text) for text in vector]
        return struct.pack(f"={len(pointers) + 1}Q", *pointers, 0)

    def _call(self, name: str, values: list[object], keep: int, tolerated: int, words: p.Words) -> None:
        try:
            result = libc.syscall(name, *values)  # type: ignore[arg-type]
        except OSError as error:
            number = error.errno or 0
            if tolerated != p.ANY and not tolerated >> number & 1:
                raise self._failure(number, words) from None
            result = -number
        if keep >= 0:
            self._slots[keep] = result

    def _failure(self, errno: int, words: p.Words) -> OSError:
        log = _read_log(self._slots[words.log]) if words.log >= 0 else ""
        return OSError(errno, init.explain(errno, log, *words.flatten()[:2]), words.path)

    def _operate(
        self, name: str, operands: tuple[object, ...], values: list[object], keep: int, words: p.Words
    ) -> None:
        if name == p.LOAD:
            buffer, offset, width = (int(value) for value in values)  # type: ignore[call-overload]
            self._slots[keep] = int.from_bytes(self._buffers[buffer][offset : offset + width], "little")
        elif name == p.FAIL:
            raise self._failure(int(values[0]), words)  # type: ignore[call-overload]
        elif name == p.EXECUTING:
            self._tell_executing()
        elif name == p.MAKE_DESTINATION:
            _make_destination(words.path, is_directory=bool(values[1]))
        elif name == p.FIND_HOME:
            self._home = _HOME + os.fsencode(user_database.home(os.getuid(), read_small("/etc/passwd")))
        elif name == p.FIND_USER:
            self._find_user(operands, uid=keep)
        elif name == p.SEND_DESCRIPTOR:
            channel, message, descriptor = values
            with sockets.Socket(fileno=os.dup(channel)) as socket:  # type: ignore[arg-type]
                sockets.send_descriptors(socket, message, (descriptor,))  # type: ignore[arg-type]
        elif name == p.EXCHANGE:
            _exchange_all(int(values[0]))  # type: ignore[call-overload]

    def _find_user(self, operands: tuple[object, ...], *, uid: int) -> None:
        user, added, groups, gid, count = operands
        assert isinstance(user, str) and isinstance(added, p.Vector) and isinstance(groups, p.Buffer)  # noqa: PT018
        passwd, group = read_small("/etc/passwd"), read_small("/etc/group")
        try:
            found = user_database.identify(user, tuple(os.fsdecode(each or b"") for each in added), passwd, group)
        except LookupError as error:
            raise OSError(0, error.args[0], "") from None
        for slot, value in ((uid, found[0]), (gid, found[1]), (count, len(found[2]))):
            self._slots[int(slot)] = value  # type: ignore[call-overload]  # a number, as all operands of this kind
        struct.pack_into(f"={len(found[2])}I", self._buffers[groups], 0, *found[2])


_OPERATIONS = frozenset((
    p.LOAD, p.FAIL, p.EXECUTING, p.MAKE_DESTINATION, p.FIND_HOME, p.FIND_USER, p.EXCHANGE, p.SEND_DESCRIPTOR,
))  # fmt: skip


def read_small(path: str) -> str:
    """Return the text of a file of the image up to a NUL, at most 1 MiB; "" for what cannot be read or is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.fsdecode(os.read(descriptor, _SMALL_BYTES).partition(b"\0")[0])
    finally:
        os.close(descriptor)


def _read_log(context: int) -> str:
    from lab.linux import mount

    return mount.read_log(context)


def _make_destination(path: str, *, is_directory: bool) -> None:
    if os.path.exists(path):
        return
    path = os.path.realpath(path)  # a link of the image may lead to what it does not have
    os.makedirs(path if is_directory else os.path.dirname(path), 0o755, exist_ok=True)
    if not is_directory:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))


def _exchange_all(descriptor: int) -> None:
    from lab.container.network import fastpath

    message = b""
    while data := os.read(descriptor, _PIPE_BYTES):
        message += data
    if not message:
        raise OSError(_ECONNRESET, "the host's side of the network could not be made", "veth")
    os.close(descriptor)
    fastpath.carry_out(message)
