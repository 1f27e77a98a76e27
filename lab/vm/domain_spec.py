"""What a guest is asked to be: frozen nouns, from which ``domain_xml`` and ``kernel_options`` decide the rest."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Accelerator(StrEnum):
    """What runs the guest's instructions."""

    TCG = "tcg"  # software emulation by QEMU
    KVM = "kvm"

    def to_libvirt(self) -> str:
        """Return libvirt's domain type."""
        return "qemu" if self is Accelerator.TCG else "kvm"


class MachineType(StrEnum):
    """QEMU's board."""

    MICROVM = "microvm"  # virtio-mmio and little else; one vCPU
    Q35 = "q35"  # a PC with PCI Express

    @property
    def transport_module(self) -> str:
        """The guest's kernel module that finds virtio devices on this board."""
        return "virtio_mmio" if self is MachineType.MICROVM else "virtio_pci"


class DiskFormat(StrEnum):
    """The format of a disk's file."""

    RAW = "raw"
    QCOW2 = "qcow2"


class CacheMode(StrEnum):
    """What QEMU does with a disk's data on the host."""

    WRITEBACK = "writeback"  # through the host's page cache, flushed when the guest asks
    NONE = "none"  # O_DIRECT: what the guest reads is not in the host's memory as well
    UNSAFE = "unsafe"  # as writeback, flushes ignored: for disks that nobody will read again


class ChannelName(StrEnum):
    """A byte stream between guest and host; the value is the name of its socket."""

    CONSOLE = "console"  # the kernel's messages, and init's when it fails
    MARKER = "marker"  # userspace has been entered, and the guest's uptime then
    OUTPUT = "output"  # the main command's standard output
    ERROR = "error"  # its standard error
    AGENT = "agent"  # requests and replies, see guest_agent


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainDisk:
    """One virtio disk; ``serial`` is how the guest tells it from others (at most 20 characters).

    ``read_only`` disks may be shared between guests; ``mount_point`` is where init mounts it ("/" for the root).
    """

    serial: str
    path: str
    format: DiskFormat
    mount_point: str
    read_only: bool = False
    cache: CacheMode = CacheMode.WRITEBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainNetwork:
    """A point-to-point link: tap device ``link`` on the host with ``host_address``, eth0 in the guest."""

    link: str
    mac: str
    host_address: str
    guest_address: str
    prefix_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """One guest.

    ``emulator`` is the program libvirt runs, which joins the cgroups whose ``cgroup.procs`` files are in
    ``cgroup_procs`` before it becomes QEMU. ``channels`` gives the host's socket for every ``ChannelName``.
    ``cpu_model`` is QEMU's name of the processor, "" for its default; ``firmware`` a file, "" for the board's own.
    """

    name: str
    accelerator: Accelerator
    machine: MachineType
    vcpus: int
    memory_bytes: int
    emulator: str
    kernel: str
    initramfs: str
    kernel_options: tuple[str, ...]
    channels: tuple[tuple[ChannelName, str], ...]
    disks: tuple[DomainDisk, ...] = ()
    network: DomainNetwork | None = None
    cpu_model: str = ""
    firmware: str = ""
    cgroup_procs: tuple[str, ...] = ()
