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
    PC = "pc"  # a PC of 1996, with PCI (i440FX)

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


class IoMode(StrEnum):
    """How QEMU asks the host for a disk's data."""

    THREADS = "threads"  # a pool of threads that wait in pread and pwrite
    NATIVE = "native"  # Linux AIO, which is asynchronous with O_DIRECT only
    IO_URING = "io_uring"


class FileSystem(StrEnum):
    """What is on a disk, or how a directory is shared; the value is the kernel's name of it."""

    EXT4 = "ext4"
    EROFS = "erofs"
    SQUASHFS = "squashfs"
    VIRTIOFS = "virtiofs"
    NINEP = "9p"

    @property
    def is_share(self) -> bool:
        """Whether a directory of the host is behind it, and no disk."""
        return self in (FileSystem.VIRTIOFS, FileSystem.NINEP)

    @property
    def is_writable(self) -> bool:
        """Whether a guest can write on it."""
        return self not in (FileSystem.EROFS, FileSystem.SQUASHFS)


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
    ``io`` None is what suits the cache: native with "none", else threads.
    """

    serial: str
    path: str
    format: DiskFormat
    mount_point: str
    read_only: bool = False
    cache: CacheMode = CacheMode.WRITEBACK
    io: IoMode | None = None
    file_system: FileSystem = FileSystem.EXT4


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainShare:
    """A directory of the host that the guest mounts by ``tag``; ``file_system`` is virtiofs or 9p.

    ``socket`` is where a running virtiofsd listens, "" with 9p, which QEMU serves itself.
    """

    tag: str
    directory: str
    file_system: FileSystem
    mount_point: str
    socket: str = ""
    read_only: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainNetwork:
    """A link of the guest's own: tap device ``link`` on the host, eth0 in the guest.

    Point to point, the host's end has ``host_address``; on a ``bridge`` that is the bridge's address.
    """

    link: str
    mac: str
    host_address: str
    guest_address: str
    prefix_length: int
    bridge: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserNetwork:
    """QEMU's own network in user space: no link on the host, which reaches the guest by forwarded ports only.

    ``forwards`` are pairs of a TCP port on the host's loopback and one in the guest.
    """

    mac: str
    forwards: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainMemory:
    """What is special about a guest's memory.

    With a ``balloon`` the host can take memory back, and reads statistics through it; ``reports_free_pages`` gives
    back by itself what the guest has freed. ``huge_pages`` takes it from the host's pool of them. What is not
    ``mergeable`` is left alone by the host's search for equal pages (KSM).
    """

    balloon: bool = False
    reports_free_pages: bool = False
    huge_pages: bool = False
    mergeable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainSpec:
    """One guest.

    ``emulator`` is the program libvirt runs, which joins the cgroups whose ``cgroup.procs`` files are in
    ``cgroup_procs`` before it becomes QEMU. ``channels`` gives the host's socket for every ``ChannelName``.
    ``initramfs`` is "" for a guest without one.
    ``cpu_model`` is QEMU's name of the processor, "" for its default; ``firmware`` a file, "" for the board's own.
    ``started_file`` gets the time at which QEMU's program was entered, "" for nowhere.
    A root that cannot be written to is ``covered``: what the guest writes on it lies in the guest's memory.
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
    shares: tuple[DomainShare, ...] = ()
    covered: bool = False
    network: DomainNetwork | UserNetwork | None = None
    memory: DomainMemory = DomainMemory()
    cpu_model: str = ""
    firmware: str = ""
    cgroup_procs: tuple[str, ...] = ()
    started_file: str = ""
