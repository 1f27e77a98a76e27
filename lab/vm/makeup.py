"""How a guest may be made up: every choice that is not its size, with what cannot go together and why; pure.

The fields' defaults are the fastest make-up that works everywhere. ``DomainSpec`` is what becomes of it for one guest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from lab.vm.domain_spec import CacheMode, DiskFormat, DomainMemory, FileSystem, IoMode, MachineType


class Machine(StrEnum):
    """Which board."""

    AUTO = "auto"  # microvm where it can be had, else q35
    MICROVM = "microvm"
    Q35 = "q35"
    PC = "pc"

    @property
    def type(self) -> MachineType | None:
        """The board that is asked for; None when that is left open."""
        return None if self is Machine.AUTO else MachineType(self.value)


class KernelImage(StrEnum):
    """In which form the kernel is loaded."""

    VMLINUX = "vmlinux"  # entered directly, through its PVH note
    BZIMAGE = "bzimage"  # unpacks itself in the guest first


class KernelFlavour(StrEnum):
    """Which of Debian's kernels."""

    CLOUD = "cloud"  # small; made for virtual machines
    GENERIC = "generic"  # for any hardware; the one that has 9p

    @property
    def package(self) -> str:
        """The package that depends on the newest one."""
        return "linux-image-cloud-amd64" if self is KernelFlavour.CLOUD else "linux-image-amd64"


class Firmware(StrEnum):
    """What runs before the kernel."""

    AUTO = "auto"  # qboot on PCs where it is installed, the board's own on a microvm
    NONE = "none"
    QBOOT = "qboot"
    SEABIOS = "seabios"


class Carrier(StrEnum):
    """How files of the host come into the guest."""

    DISK = "disk"  # as a virtio-blk disk
    VIRTIOFS = "virtiofs"  # as a directory that virtiofsd serves
    NINEP = "9p"  # as a directory that QEMU serves

    @property
    def file_system(self) -> FileSystem:
        """What the guest mounts of a shared directory."""
        return FileSystem(self.value)


class NetworkKind(StrEnum):
    """What a guest's network card is connected to."""

    TAP = "tap"  # a link to the host, for this guest alone
    BRIDGE = "bridge"  # the bridge of our containers
    USER = "user"  # QEMU itself, which opens the host's sockets for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Makeup:
    """One way to make guests up.

    ``root_file_system``, ``disk_format``, ``cache`` and ``io`` are of the root disk; ``io`` None is what suits the
    cache. ``without_options`` are names of kernel options that the guest is started without, to see what each buys.
    """

    machine: Machine = Machine.AUTO
    kernel: KernelFlavour = KernelFlavour.CLOUD
    kernel_image: KernelImage = KernelImage.VMLINUX
    firmware: Firmware = Firmware.AUTO
    root: Carrier = Carrier.DISK
    root_file_system: FileSystem = FileSystem.EXT4
    disk_format: DiskFormat = DiskFormat.QCOW2
    cache: CacheMode = CacheMode.WRITEBACK
    io: IoMode | None = None
    volumes: Carrier = Carrier.DISK
    network: NetworkKind = NetworkKind.TAP
    memory: DomainMemory = field(default_factory=DomainMemory)
    without_options: tuple[str, ...] = ()

    @property
    def carriers(self) -> frozenset[Carrier]:
        """Everything by which files come into such a guest."""
        return frozenset((self.root, self.volumes))

    @property
    def shares_directories(self) -> bool:
        """Whether any directory of the host is shared."""
        return self.carriers != {Carrier.DISK}

    @property
    def modules(self) -> tuple[str, ...]:
        """The kernel modules that such a guest needs beyond those that all do."""
        found = {"virtio_blk", "ext4"}  # a scratch disk may come with any root
        if not self.root_file_system.is_writable:
            found |= {str(self.root_file_system), "overlay"}
        if Carrier.VIRTIOFS in self.carriers:
            found.add("virtiofs")
        if Carrier.NINEP in self.carriers:
            found |= {"9p", "9pnet_virtio"}
        if self.memory.balloon:
            found.add("virtio_balloon")
        if self.kernel is KernelFlavour.GENERIC:
            found.add("crc32c_generic")  # ext4 asks for it by a name that nobody in an initramfs answers to
        return tuple(sorted(found))


PLAIN = Makeup()
"""How guests are made up unless one asks otherwise."""


def describe_root(makeup: Makeup) -> str:
    """Return in words on what the guest's root lies, for reports."""
    if makeup.root is not Carrier.DISK:
        return f"the host's overlay, shared by {makeup.root}"
    io = f", io {makeup.io}" if makeup.io else ""
    cover = "" if makeup.root_file_system.is_writable else ", covered by an overlay in the guest's memory"
    return f"{makeup.root_file_system} on a {makeup.disk_format} virtio disk, cache {makeup.cache}{io}{cover}"


def refusal(makeup: Makeup) -> str:
    """Return why such a guest cannot be, a sentence that says what would do instead; "" if it can."""
    return next((reason for holds, reason in _refusals(makeup) if holds), "")


def _refusals(makeup: Makeup) -> tuple[tuple[bool, str], ...]:
    is_microvm = makeup.machine is Machine.MICROVM
    is_disk = makeup.root is Carrier.DISK
    disk = (makeup.disk_format, makeup.cache, makeup.io)
    read_only = not makeup.root_file_system.is_writable
    return (
        (
            makeup.firmware is Firmware.NONE,
            "without firmware nothing enters a kernel: QEMU's loader for kernels is called by it; "
            'use firmware = "qboot", the smallest',
        ),
        (
            Carrier.NINEP in makeup.carriers and makeup.kernel is KernelFlavour.CLOUD,
            'the cloud kernel has no 9p; add kernel = "generic", which is fetched when it is first used',
        ),
        (
            makeup.shares_directories and is_microvm,
            'libvirt has no place for a shared directory on a microvm, which has no PCI; use machine = "q35"',
        ),
        (
            makeup.root_file_system.is_share,
            f'{makeup.root_file_system} is no file system for a disk; use root = "{makeup.root_file_system}"',
        ),
        (
            not is_disk and makeup.root_file_system is not FileSystem.EXT4,
            f"a root by {makeup.root} is a directory of the host, so it cannot be {makeup.root_file_system}",
        ),
        (
            not is_disk and disk != (PLAIN.disk_format, PLAIN.cache, PLAIN.io),
            f"a root by {makeup.root} is no disk: it has no disk_format, cache or io",
        ),
        (
            read_only and makeup.disk_format is DiskFormat.QCOW2,
            f'{makeup.root_file_system} is read-only, so all guests share one disk; add disk_format = "raw"',
        ),
        (
            makeup.io is IoMode.NATIVE and makeup.cache is not CacheMode.NONE,
            'io = "native" waits in the host\'s page cache where there is one; add cache = "none"',
        ),
        (
            makeup.memory.reports_free_pages and not makeup.memory.balloon,
            "free pages are reported by the balloon's driver; add balloon = true",
        ),
        (
            makeup.memory.huge_pages and Carrier.VIRTIOFS in makeup.carriers,
            "virtiofsd maps the guest's memory from a memfd of small pages; leave huge_pages or virtiofs out",
        ),
    )
