"""The guest's init and the modules that it needs, packed for the kernel.

``guest/init.c`` is compiled by the host's compiler when it is first needed; the image that a guest runs contributes
nothing to its boot, so that a guest starts whatever is in it.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass

from lab.linux.compiler import compile_c
from lab.paths import Paths
from lab.vm import cache
from lab.vm.kernel import GuestKernel, read_modules

_FLAGS = ("-Os", "-static", "-s")
_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
_PAGE_BYTES = 4096
_BEYOND_PAGE_BYTES = 4  # the format pads to 4 bytes, and the kernel skips zeros behind an archive


@dataclass(frozen=True, slots=True, kw_only=True)
class CpioEntry:
    """One member of an archive; ``mode`` has the file's type, ``device`` the numbers of a device node."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def cpio(entries: Iterable[CpioEntry]) -> bytes:
    """Return an archive in the format "newc", owned by root and without times, so that equal input is equal output.

    Source: kernel Documentation/driver-api/early-userspace/buffer-format.rst.
    """
    archive = bytearray()
    for number, entry in enumerate((*entries, CpioEntry(name=_TRAILER, mode=0)), start=1):
        archive += _header(number, entry)
        _pad(archive)
        archive += entry.data
        _pad(archive)
    return bytes(archive)


def _header(number: int, entry: CpioEntry) -> bytes:
    name = entry.name.encode() + b"\0"
    inode, links, owner, group, mtime = number, 1, 0, 0, 0
    fields = (
        inode, entry.mode, owner, group, links, mtime, len(entry.data), 0, 0, *entry.device, len(name), 0,
    )  # fmt: skip
    return (_MAGIC + "".join(f"{field:08x}" for field in fields)).encode() + name


def _pad(archive: bytearray) -> None:
    archive += b"\0" * (-len(archive) % 4)


def clear_of_tables(archive: bytes) -> bytes:
    """Return the archive with zeros behind it, so that a VMM that puts it at the end of memory leaves room there.

    QEMU's microvm loads an initramfs at the last page boundary at which it fits, over the ACPI tables that its firmware
    has put at the very end: they survive only in what is left of the last page. With a length of 4 bytes more than
    whole pages that is nearly all of it. Without, whether a kernel boots depends on the length of its initramfs: it
    hangs while it sums up a table that is no longer one. Source: qemu hw/i386/microvm.c (acpi_data_size is 0 there).
    """
    return archive + bytes((_BEYOND_PAGE_BYTES - len(archive)) % _PAGE_BYTES)


def guest_entries(init: bytes, modules: Iterable[tuple[str, bytes]]) -> tuple[CpioEntry, ...]:
    """Return the members of a guest's initramfs: init, modules with their order, and the console device."""
    loaded = tuple(modules)
    order = "".join(f"{name}.ko\n" for name, _ in loaded).encode()
    return (
        CpioEntry(name="dev", mode=stat.S_IFDIR | 0o755),
        # the kernel opens it for init before init can mount anything
        CpioEntry(name="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1)),
        CpioEntry(name="init", mode=stat.S_IFREG | 0o755, data=init),
        CpioEntry(name="modules", mode=stat.S_IFDIR | 0o755),
        CpioEntry(name="modules/order", mode=stat.S_IFREG | 0o644, data=order),
        *(CpioEntry(name=f"modules/{name}.ko", mode=stat.S_IFREG | 0o644, data=data) for name, data in loaded),
    )


def ensure_init(paths: Paths) -> str:
    """Return the path of the guest's init, compiling it if this source has not been compiled yet.

    Raises:
        UnavailableError: there is no compiler, or no static C library.
    """
    source = importlib.resources.files("lab.vm").joinpath("guest/init.c").read_bytes()
    name = f"init-{hashlib.sha256(source).hexdigest()[:16]}"

    def build(temporary: str) -> None:
        compile_c(source, temporary, _FLAGS, purpose="the guest's init")

    return cache.make_once(os.path.join(paths.guest_kernels, "initramfs", name), build)


def ensure_initramfs(paths: Paths, kernel: GuestKernel, modules: Iterable[str]) -> str:
    """Return the path of an initramfs with the guest's init and these modules of ``kernel``; made once.

    Raises:
        UnavailableError: no compiler, or the kernel has no such module.
    """
    wanted = tuple(sorted(modules))
    init = ensure_init(paths)
    key = hashlib.sha256(
        "\n".join(("unsigned, clear of tables", os.path.basename(init), kernel.digest, *wanted)).encode()
    ).hexdigest()[:16]

    def build(temporary: str) -> None:
        with open(init, "rb") as file:
            content = file.read()
        archive = cpio(guest_entries(content, read_modules(kernel, wanted)))
        cache.write_file(temporary, clear_of_tables(archive))

    return cache.make_once(os.path.join(os.path.dirname(init), f"{key}.cpio"), build)
