"""The smallest program there is: a static ELF file that exits with a given code, for checks that need no image."""

from __future__ import annotations

import os
import struct

from lab.errors import UnavailableError

_LOAD_ADDRESS = 0x400000
_HEADER_BYTES, _SEGMENT_BYTES = 64, 56
_MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine, elf.h


def exit_program(code: int, machine: str = "") -> bytes:
    """Return an executable that does nothing but exit(``code``) on this machine.

    Raises:
        UnavailableError: the machine's instructions are not known here.
    Source: man elf(5).
    """
    machine = machine or os.uname().machine
    if machine not in _MACHINES:
        raise UnavailableError(f"no probe program for machine {machine}", hint="x86_64 and aarch64 are supported")
    text = _instructions(machine, code)
    entry = _LOAD_ADDRESS + _HEADER_BYTES + _SEGMENT_BYTES
    size = _HEADER_BYTES + _SEGMENT_BYTES + len(text)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bit, little endian, version 1
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", ident, 2, _MACHINES[machine], 1, entry, _HEADER_BYTES, 0, 0, 64, _SEGMENT_BYTES, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _LOAD_ADDRESS, _LOAD_ADDRESS, size, size, 0x1000)
    return header + segment + text


def _instructions(machine: str, code: int) -> bytes:
    if machine == "x86_64":  # mov edi, code; mov eax, 60; syscall
        return b"\xbf" + struct.pack("<I", code) + b"\xb8\x3c\x00\x00\x00\x0f\x05"
    # movz x0, code; movz x8, 93; svc 0
    return struct.pack("<III", 0xD2800000 | code << 5, 0xD2800000 | 93 << 5 | 8, 0xD4000001)
