"""/dev/kvm by its own calls: open it, make a virtual machine, run a few instructions of real mode.

Source: kernel Documentation/virt/kvm/api.rst and include/uapi/linux/kvm.h (x86).
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum

from lab.linux.libc import address_of

DEVICE = "/dev/kvm"
API_VERSION = 12

_GET_API_VERSION = 0xAE00
_CREATE_VM = 0xAE01
_GET_VCPU_MMAP_SIZE = 0xAE04
_CREATE_VCPU = 0xAE41
_SET_USER_MEMORY_REGION = 0x4020AE46
_RUN = 0xAE80
_SET_REGS = 0x4090AE82
_GET_SREGS = 0x8138AE83
_SET_SREGS = 0x4138AE84

_PAGE = 4096
_LOAD_ADDRESS = 0x1000
_SREGS_BYTES = 0x138
_REGS = struct.Struct("<18Q")  # rax … r15, rip, rflags
_RFLAGS_RESERVED = 2  # a bit that is always set
_EXIT_REASON_OFFSET = 8
_IO_EXIT = struct.Struct("<BBHIQ")  # direction, size, port, count, offset of the data
_IO_EXIT_OFFSET = 32


class ExitReason(IntEnum):
    """Why a vCPU came back; others are returned as plain numbers."""

    IO = 2
    HLT = 5
    SHUTDOWN = 8
    INTERNAL_ERROR = 17


@dataclass(frozen=True, slots=True, kw_only=True)
class VcpuExit:
    """One return of a vCPU: its reason and, for a write to a port, the port and the first byte."""

    reason: int
    port: int = 0
    value: int = 0


def open_device() -> int:
    """Open /dev/kvm and return the descriptor.

    Raises:
        OSError: with errno and path.
    """
    return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)


def api_version(kvm: int) -> int:
    """Return the version of the interface; 12 since Linux 2.6.22.

    Raises:
        OSError: with errno.
    """
    return fcntl.ioctl(kvm, _GET_API_VERSION, 0)


def create_vm(kvm: int) -> int:
    """Make a virtual machine without memory or vCPUs and return its descriptor.

    Raises:
        OSError: with errno.
    """
    return fcntl.ioctl(kvm, _CREATE_VM, 0)


def run_real_mode(code: bytes, *, exits: int) -> tuple[VcpuExit, ...]:
    """Run ``code`` (at most a page) at 0000:1000 in 16-bit mode on a new machine; return its first ``exits`` returns.

    A guest that neither halts nor touches a port does not return: call it where that can be borne.

    Raises:
        OSError: with errno.
    """
    with ExitStack() as stack:
        kvm = _owned(stack, open_device())
        machine = _owned(stack, create_vm(kvm))
        memory = bytearray(3 * _PAGE)
        _set_memory(machine, memory, code)
        vcpu = _owned(stack, fcntl.ioctl(machine, _CREATE_VCPU, 0))
        state = stack.enter_context(mmap.mmap(vcpu, fcntl.ioctl(kvm, _GET_VCPU_MMAP_SIZE, 0)))
        _set_registers(vcpu)
        return tuple(_run(vcpu, state) for _ in range(exits))


def _owned(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _set_memory(machine: int, memory: bytearray, code: bytes) -> None:
    """Give the machine one page at the load address: the first whole page inside ``memory``, with ``code`` in it."""
    address = address_of(memory)
    start = -address % _PAGE
    memory[start : start + len(code)] = code
    region = struct.pack("<IIQQQ", 0, 0, _LOAD_ADDRESS, _PAGE, address + start)
    fcntl.ioctl(machine, _SET_USER_MEMORY_REGION, region)


def _set_registers(vcpu: int) -> None:
    special = bytearray(fcntl.ioctl(vcpu, _GET_SREGS, bytes(_SREGS_BYTES)))
    struct.pack_into("<QIH", special, 0, 0, 0xFFFF, 0)  # cs, the first member: base, limit, selector
    fcntl.ioctl(vcpu, _SET_SREGS, bytes(special))
    fcntl.ioctl(vcpu, _SET_REGS, _REGS.pack(*[0] * 16, _LOAD_ADDRESS, _RFLAGS_RESERVED))


def _run(vcpu: int, state: mmap.mmap) -> VcpuExit:
    fcntl.ioctl(vcpu, _RUN, 0)
    (reason,) = struct.unpack_from("<I", state, _EXIT_REASON_OFFSET)
    if reason != ExitReason.IO:
        return VcpuExit(reason=reason)
    _, _, port, _, offset = _IO_EXIT.unpack_from(state, _IO_EXIT_OFFSET)
    return VcpuExit(reason=reason, port=port, value=state[offset])
