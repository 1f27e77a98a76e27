"""The testbed's initramfs: a static busybox, the modules that find its disks, and the two programs in ``inside``."""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import stat
import sys

from lab.errors import UnavailableError
from lab.paths import Paths
from lab.vm import cache
from lab.vm.initramfs import CpioEntry, cpio, guest_entries
from lab.vm.kernel import GuestKernel, read_modules

_BUSYBOX = "/bin/busybox"
_MEMORY_DISKS = ("nfit", "nd_pmem", "erofs", "overlay", "kvm_amd")
_DEVICES = ("virtio_pci", "virtio_blk", "virtio_console")


def ensure(paths: Paths, kernel: GuestKernel, *, counted: bool) -> str:
    """Return the path of the initramfs; for a machine that counts instructions it has no driver of a device.

    Raises:
        UnavailableError: there is no busybox, or the kernel has no such module.
    """
    init, agent = (_program(name) for name in ("init.sh", "agent.py"))
    modules = _MEMORY_DISKS + (() if counted else _DEVICES)
    parts = (kernel.digest, init.decode(), agent.decode(), sys.executable, *modules)
    name = f"initramfs-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.cpio"

    def build(temporary: str) -> None:
        entries = (
            CpioEntry(name="bin", mode=stat.S_IFDIR | 0o755),
            CpioEntry(name="bin/busybox", mode=stat.S_IFREG | 0o755, data=_busybox()),
            CpioEntry(name="agent.py", mode=stat.S_IFREG | 0o644, data=agent),
            CpioEntry(name="python", mode=stat.S_IFREG | 0o644, data=sys.executable.encode()),
            *guest_entries(init, read_modules(kernel, modules)),
        )
        cache.write_file(temporary, cpio(entries))

    os.makedirs(paths.testbed_cache, exist_ok=True)
    return cache.make_once(os.path.join(paths.testbed_cache, name), build)


def with_orders(initramfs: str, command: bytes, tree: bytes) -> bytes:
    """Return an initramfs that also holds the one command of a machine, and the tree that it works on."""
    entries = (
        CpioEntry(name="payload", mode=stat.S_IFDIR | 0o755),
        CpioEntry(name="payload/command", mode=stat.S_IFREG | 0o644, data=command),
        CpioEntry(name="payload/tree.tar", mode=stat.S_IFREG | 0o644, data=tree),
    )
    with open(initramfs, "rb") as file:
        return file.read() + cpio(entries)


def _program(name: str) -> bytes:
    return importlib.resources.files("lab.testbed").joinpath("inside", name).read_bytes()


def _busybox() -> bytes:
    try:
        with open(_BUSYBOX, "rb") as file:
            return file.read()
    except FileNotFoundError as error:
        raise UnavailableError(f"{_BUSYBOX} is missing", hint="apt install busybox-static") from error
