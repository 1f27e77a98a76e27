"""bpf(2): load a program of extended BPF, and attach it to a cgroup; and the instructions of one.

Source: man bpf(2), kernel include/uapi/linux/bpf.h, Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import struct

from lab.linux.libc import address_of_bytes, syscall

BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6  # a type of attachment
BPF_F_ALLOW_MULTI = 2  # the programs of parents and children run as well, and all must agree

# Codes of instructions: class, operation, and where the second operand is (X another register, K the immediate).
BPF_LDX_W = 0x61  # dst = the 32 bits at src + offset
BPF_ALU64_MOV_X, BPF_ALU64_MOV_K = 0xBF, 0xB7
BPF_ALU64_AND_K = 0x57
BPF_ALU64_RSH_K = 0x77
BPF_JEQ_K, BPF_JNE_K = 0x15, 0x55  # jumps skip as many instructions as the offset says
BPF_EXIT = 0x95  # the result is in register 0

# What such a program finds where register 1 points: three words, the first with two halves.
# Source: struct bpf_cgroup_dev_ctx.
DEVICE_CONTEXT_ACCESS_AND_TYPE, DEVICE_CONTEXT_MAJOR, DEVICE_CONTEXT_MINOR = 0, 4, 8
BPF_DEVCG_ACC_MKNOD, BPF_DEVCG_ACC_READ, BPF_DEVCG_ACC_WRITE = 1, 2, 4  # the upper half: all that is asked for at once
BPF_DEVCG_DEV_BLOCK, BPF_DEVCG_DEV_CHAR = 1, 2  # the lower half

_BPF_PROG_LOAD, _BPF_PROG_ATTACH = 5, 8
_INSTRUCTION = struct.Struct("=BBhi")
INSTRUCTION_BYTES = _INSTRUCTION.size
_LICENSE = b"Apache-2.0\0"


def instruction(code: int, *, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """Return one instruction as the kernel reads it, eight bytes."""
    return _INSTRUCTION.pack(code, src << 4 | dst, offset, immediate)


def load_program(program_type: int, instructions: bytes, name: str) -> int:
    """Let the kernel verify and compile a program; return its descriptor (closed on exec), which is the caller's.

    Raises:
        OSError: with errno and ``name``; EACCES or EINVAL where the verifier refuses the program.
    """
    count = len(instructions) // INSTRUCTION_BYTES
    code, license_at = address_of_bytes(instructions), address_of_bytes(_LICENSE)
    attributes = struct.pack("=IIQQIIQII16s", program_type, count, code, license_at, 0, 0, 0, 0, 0, name.encode()[:15])
    return syscall("bpf", _BPF_PROG_LOAD, attributes, len(attributes), path=name)


def attach_program(cgroup: int, program: int, attach_type: int, flags: int, *, path: str) -> None:
    """Attach a loaded program to an open v2 cgroup directory, until that is removed; ``path`` is for errors.

    Raises:
        OSError: with errno and ``path``.
    """
    attributes = struct.pack("=IIII", cgroup, program, attach_type, flags)
    syscall("bpf", _BPF_PROG_ATTACH, attributes, len(attributes), path=path)
