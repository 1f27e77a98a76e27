"""All that a machine of the testbed is made of, from the cache or made now."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from lab.paths import Paths
from lab.testbed import data_disk, initramfs, root_disk
from lab.testbed.machine import Machine, Region
from lab.testbed.root_disk import Progress
from lab.vm.kernel import ensure_kernel
from lab.vm.kernel_options import host_tsc_khz


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Files that no machine writes to."""

    vmlinux: str
    initramfs: str
    counted_initramfs: str
    root: str
    data: str

    @property
    def files(self) -> tuple[str, ...]:
        """The names of those in the cache."""
        made = (self.initramfs, self.counted_initramfs, self.root, self.data)
        return tuple(os.path.basename(path) for path in made)

    @property
    def key(self) -> str:
        """What a saved state depends on, besides the machine's size and QEMU."""
        return hashlib.sha256("\0".join((self.vmlinux, self.initramfs, self.root, self.data)).encode()).hexdigest()[:16]

    def machine(self, directory: str, disk: str, *, vcpus: int, memory_bytes: int) -> Machine:
        """Return a machine that stays, with its data on ``disk``."""
        return Machine(
            directory=directory,
            vmlinux=self.vmlinux,
            initramfs=self.initramfs,
            regions=(_region(self.root),),
            disk=disk,
            vcpus=vcpus,
            memory_bytes=memory_bytes,
            tsc_khz=host_tsc_khz(Path("/proc/cpuinfo").read_text()),
        )

    def counted_machine(self, directory: str, initramfs_path: str, *, memory_bytes: int) -> Machine:
        """Return a machine that counts instructions, whose data is memory as well: what it writes is its own."""
        return Machine(
            directory=directory,
            vmlinux=self.vmlinux,
            initramfs=initramfs_path,
            regions=(_region(self.root), _region(self.data, private=True)),
            disk="",
            vcpus=1,  # several would take turns in real time
            memory_bytes=memory_bytes,
            tsc_khz=None,
            counted=True,
        )


def ensure(paths: Paths, progress: Progress) -> Parts:
    """Return the parts; the first time that takes minutes and a network.

    Raises:
        UnavailableError, ContainerError, KernelError, DomainError: as what makes them.
    """
    kernel = ensure_kernel(paths)
    return Parts(
        vmlinux=kernel.vmlinux,
        initramfs=initramfs.ensure(paths, kernel, counted=False),
        counted_initramfs=initramfs.ensure(paths, kernel, counted=True),
        root=root_disk.ensure(paths, kernel, progress),
        data=data_disk.ensure(paths, kernel, progress),
    )


def _region(path: str, *, private: bool = False) -> Region:
    return Region(path=path, size_bytes=os.path.getsize(path), private=private)
