"""The least that a virtual machine costs: a guest without a kernel, which writes one byte and does nothing more.

What starts it (libvirt, QEMU, firmware) is the same as with a kernel, so it is the part of a guest's start-up that no
kernel can save. It runs wherever the accelerator runs anything, also under a KVM that boots no Linux. With Linux in its
place, the same measurement ends at the first byte of userspace.
"""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import time
from dataclasses import dataclass, replace

from lab.units import NS_PER_S
from lab.vm import cache
from lab.vm.direct_qemu import DirectGuest
from lab.vm.domain_spec import Accelerator, DomainSpec, MachineType
from lab.vm.domain_xml import MARKER_IO_PORT
from lab.vm.guest import Guest
from lab.vm.platform import Platform

_LOAD_ADDRESS = 0x100000  # 1 MiB, above what firmware uses
_CODE = bytes(
    (
        0xB0, 0x55,  # mov al, 'U'
        0xE6, MARKER_IO_PORT,  # out 0xe9, al
        0xF4,  # hlt
        0xEB, 0xFD,  # jmp to the hlt
    )
)  # fmt: skip
_PHYS32_ENTRY = 18  # Source: Xen public/elfnote.h, XEN_ELFNOTE_PHYS32_ENTRY
_ELF_HEADER = struct.Struct("<16sHHIIIIIHHHHHH")
_PROGRAM_HEADER = struct.Struct("<8I")
_PT_LOAD, _PT_NOTE = 1, 4
_READ_EXECUTE = 5
_MEMORY_BYTES = 128 << 20
_TIMEOUT_NS = 60 * NS_PER_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """One start: ``manager_ns`` up to QEMU's program, ``vmm_ns`` from there to the guest's first byte."""

    manager_ns: int
    vmm_ns: int


def program() -> bytes:
    """Return the guest: an ELF file of 32 bits that is entered in protected mode (PVH).

    Source: Xen docs/misc/pvh.pandoc: flat segments, paging off, interrupts off.
    """
    note = struct.pack("<III4sI", 4, 4, _PHYS32_ENTRY, b"Xen\0", _LOAD_ADDRESS)
    code_offset = _ELF_HEADER.size + 2 * _PROGRAM_HEADER.size
    note_offset = code_offset + len(_CODE) + -len(_CODE) % 4
    identification = b"\x7fELF" + bytes((1, 1, 1))  # 32 bits, little-endian, version 1
    header = _ELF_HEADER.pack(
        identification, 2, 3, 1, _LOAD_ADDRESS, _ELF_HEADER.size, 0, 0,
        _ELF_HEADER.size, _PROGRAM_HEADER.size, 2, 0, 0, 0,
    )  # fmt: skip
    load = _segment(_PT_LOAD, code_offset, _LOAD_ADDRESS, len(_CODE))
    notes = _segment(_PT_NOTE, note_offset, 0, len(note))
    return (header + load + notes + _CODE).ljust(note_offset, b"\0") + note


def _segment(kind: int, offset: int, address: int, size: int) -> bytes:
    return _PROGRAM_HEADER.pack(kind, offset, address, address, size, size, _READ_EXECUTE, 4)


def measure(
    host: Platform, accelerator: Accelerator, machine: MachineType, *, direct: bool, linux: bool = False
) -> Floor:
    """Start such a guest once, by libvirt or ``direct``ly by QEMU's command line, and remove it.

    With ``linux`` it has a kernel after all, and what is timed is the first byte of its init.

    Raises:
        DomainError: it does not start.
        TimeoutError: it says nothing.
    """
    parent = os.path.join(host.paths.run, "guest-checks")
    os.makedirs(parent, exist_ok=True)
    directory = tempfile.mkdtemp(prefix="lab-floor-", dir=parent)
    try:
        spec = _spec(host, accelerator, machine, directory)
        kind = DirectGuest if direct else Guest
        return _start(kind(host.connection, spec if linux else _without_kernel(spec, directory), directory))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _spec(host: Platform, accelerator: Accelerator, machine: MachineType, directory: str) -> DomainSpec:
    return host.domain_spec(
        name=os.path.basename(directory),
        directory=directory,
        accelerator=accelerator,
        machine=machine,
        vcpus=1,
        memory_bytes=_MEMORY_BYTES,
    )


def _without_kernel(spec: DomainSpec, directory: str) -> DomainSpec:
    kernel = os.path.join(directory, "floor.elf")
    cache.write_file(kernel, program())
    return replace(spec, kernel=kernel, initramfs="", kernel_options=())


def _start(guest: Guest) -> Floor:
    asked_ns = time.monotonic_ns()
    try:
        guest.launch()
        guest.release_vcpus()
        first_byte_ns = guest.await_userspace(deadline_ns=time.monotonic_ns() + _TIMEOUT_NS)
        with open(guest.spec.started_file, encoding="ascii") as file:
            started_ns = int(file.read())
    finally:
        guest.destroy()
    return Floor(manager_ns=started_ns - asked_ns, vmm_ns=first_byte_ns - started_ns)
