"""A plan whose steps are all programs of system calls -> the bytes that ``machine.c`` carries out; pure."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING

from lab.container import program as p
from lab.container.init import MARK
from lab.container.init_calls import PROGRAMS
from lab.container.program import Buffer, Filter, Slot, Vector
from lab.linux.libc import SYSCALL_NUMBERS

if TYPE_CHECKING:
    from lab.container.program import Instruction

Step = tuple[str, tuple[object, ...]]
FailureTable = tuple[tuple[str, str, dict[int, str], str], ...]
"""For each instruction: step, system call to be named or "", reasons by errno, and path."""

OPERATIONS = (
    p.CALL, p.SKIP_UNLESS, p.LOAD, p.FAIL, p.MARK, p.EXECUTING, p.MAKE_DESTINATION, p.FIND_HOME, p.EXCHANGE,
    p.SEND_DESCRIPTOR, p.FIND_USER,
)  # fmt: skip
_NUMBERS = {name: number for number, name in enumerate(OPERATIONS)}
_CALL = OPERATIONS.index(p.CALL)
_DATA, _SLOT, _BUFFER = 1, 2, 3  # 0 is a plain value
_HEADER = struct.Struct("=4I")
_OPERANDS = 6
_INSTRUCTION = struct.Struct("=HHihh6s6xQ")
_VALUES = [struct.Struct(f"={count}q") for count in range(_OPERANDS + 1)]
_WORD = struct.Struct("=Q")
_FILTER = struct.Struct("=H6xQ")  # struct sock_fprog
_HOME = (1 << 64) - 1


def assemble(steps: Iterable[Step]) -> tuple[bytes, FailureTable] | None:
    """Return the machine's program and what its failures mean; None if a step is not one of system calls."""
    named = []
    for step, arguments in steps:
        if step == MARK:
            named.append((step, p.operation(p.MARK, ord(str(arguments[0])[0]))))
        elif step in PROGRAMS:
            named.extend((step, instruction) for instruction in PROGRAMS[step](*arguments))
        else:
            return None
    table = tuple((step, *instruction[4].flatten()) for step, instruction in named)
    return program([instruction for _, instruction in named]), table


def program(instructions: list[Instruction]) -> bytes:
    """Return instructions as the machine takes them: header, instructions, relocations, data."""
    return _Assembly().program(instructions)


class _Assembly:
    """The data of a program while it grows: equal memory that is only read is there once."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._relocations: list[int] = []
        self._places: dict[bytes, int] = {}
        self._texts: dict[str, int] = {}

    def program(self, instructions: list[Instruction]) -> bytes:
        """Return header, instructions, relocations, data."""
        code = b"".join(self._instruction(instruction) for instruction in instructions)
        relocations = struct.pack(f"={len(self._relocations)}I", *self._relocations)
        relocations += bytes(-len(relocations) % 8)
        offset = _HEADER.size + len(code)
        header = _HEADER.pack(len(instructions), len(self._relocations), offset, offset + len(relocations))
        return header + code + relocations + bytes(self._data)

    def _instruction(self, instruction: Instruction) -> bytes:
        name, operands, keep, tolerated, words = instruction
        kinds, values = bytearray(_OPERANDS), []
        for at, operand in enumerate(operands):  # some hundred in a plan, so the usual kinds come first
            kind = type(operand)
            if kind is int:
                values.append(operand)
            elif operand is None:
                values.append(0)
            elif kind is str:
                kinds[at] = _DATA
                values.append(self._text(operand))  # type: ignore[arg-type]  # by its type
            else:
                kinds[at], value = self._operand(operand)
                values.append(value)
        operation = _NUMBERS.get(name, _CALL)
        number = SYSCALL_NUMBERS[name] if operation == _CALL else 0
        head = _INSTRUCTION.pack(operation, len(values), number, keep, words.log, bytes(kinds), tolerated)
        return head + _VALUES[len(values)].pack(*values)

    def _operand(self, operand: object) -> tuple[int, int]:
        match operand:
            case Slot():
                return _SLOT, int(operand)
            case Buffer():
                return _BUFFER, int(operand)
            case Vector():
                return _DATA, self._vector(operand)
            case Filter():
                return _DATA, self._filter(operand)
            case bytes():
                return _DATA, self._place(operand + b"\0")
        raise TypeError(f"no operand: {operand!r}")

    def _text(self, text: str) -> int:
        if text not in self._texts:
            self._texts[text] = self._place(os.fsencode(text) + b"\0")
        return self._texts[text]

    def _place(self, memory: bytes) -> int:
        if memory not in self._places:
            self._places[memory] = self._append(memory)
        return self._places[memory]

    def _append(self, memory: bytes) -> int:
        self._data += bytes(-len(self._data) % 8)
        offset = len(self._data)
        self._data += memory
        return offset

    def _vector(self, vector: Vector) -> int:
        pointers = [_HOME if text is None else self._place(text + b"\0") for text in vector]
        offset = self._append(b"".join(map(_WORD.pack, (*pointers, 0))))
        self._relocations += range(offset, offset + _WORD.size * len(pointers), _WORD.size)
        return offset

    def _filter(self, program: Filter) -> int:
        offset = self._append(_FILTER.pack(len(program) // 8, self._place(bytes(program))))
        self._relocations.append(offset + _FILTER.size - _WORD.size)
        return offset
