"""The OCI runtime configuration, field for field (in Python's spelling): what a container is to be.

Only what the engine acts on is here. ``lab.container.spec.codec`` turns it into ``config.json`` and back.
Source: opencontainers/runtime-spec, config.md and config-linux.md, version 1.0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

OCI_VERSION = "1.0.2"

JOINS = "container:"
"""What the path of a namespace, or the source of a bind, starts with that is another container's, then its id."""


class NamespaceType(StrEnum):
    """A kind of namespace, in the words of the specification."""

    PID = "pid"
    NETWORK = "network"
    MOUNT = "mount"
    IPC = "ipc"
    UTS = "uts"
    CGROUP = "cgroup"
    USER = "user"


class Status(StrEnum):
    """Where a container is in its life."""

    CREATING = "creating"
    CREATED = "created"
    RUNNING = "running"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Root:
    """The root file system: its directory, and whether the container may write to it."""

    path: str
    readonly: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A mount inside the container; ``type`` "bind" takes a host path as ``source``."""

    destination: str
    type: str
    source: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Who the process is.

    With a ``username``, "USER[:GROUP]" as docker takes it, the root's own /etc/passwd and /etc/group decide at every
    start who that is, ``additional_groups`` by name or number beside it, and the numbers here are not used.
    """

    uid: int = 0
    gid: int = 0
    umask: int = 0o022
    additional_gids: tuple[int, ...] = ()
    username: str = ""
    additional_groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Names of capabilities ("CAP_CHOWN") per set."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rlimit:
    """A resource limit: ``type`` as in "RLIMIT_NOFILE"."""

    type: str
    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleSize:
    """Rows and columns of a terminal; 0 for unknown."""

    height: int = 0
    width: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A program and what it runs as; ``env`` lines are "NAME=value".

    A process with a ``terminal`` gets its standard streams from init, as ``init_calls.open_console`` says.
    """

    args: tuple[str, ...]
    cwd: str = "/"
    env: tuple[str, ...] = ()
    user: User = field(default_factory=User)
    capabilities: Capabilities = field(default_factory=Capabilities)
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    terminal: bool = False
    console_size: ConsoleSize = field(default_factory=ConsoleSize)
    oom_score_adj: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """A namespace that the container gets: a new one, or with ``path`` "container:ID" that of a running container."""

    type: NamespaceType
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdMapping:
    """A range of ids: ``container_id`` inside is ``host_id`` outside, and so are the ``size`` - 1 after it."""

    container_id: int
    host_id: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A device node in the container; ``type`` "c", "b" or "p"."""

    path: str
    type: str
    major: int = 0
    minor: int = 0
    file_mode: int = 0o666
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRule:
    """A line of the device allow list; ``type`` a, b or c; None stands for any number."""

    allow: bool
    type: str = "a"
    major: int | None = None
    minor: int | None = None
    access: str = "rwm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes: ``limit`` of memory, ``swap`` of memory and swap together, ``reservation``; None for no limit.

    ``swappiness`` is 0 to 100. With ``disable_oom_killer`` tasks wait for memory in place of being killed.
    """

    limit: int | None = None
    swap: int | None = None
    reservation: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """``quota`` µs of CPU time in each ``period`` µs; ``shares`` relative to 1024; ``cpus``, ``mems`` as in "0-1"."""

    shares: int | None = None
    quota: int | None = None
    period: int = 100_000
    cpus: str = ""
    mems: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pids:
    """The number of tasks."""

    limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThrottleDevice:
    """A whole block device by its numbers, and ``rate`` bytes or operations per second."""

    major: int
    minor: int
    rate: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockIo:
    """What block devices may be asked for: bytes (``bps``), operations (``iops``) per second; ``weight`` 10..1000."""

    weight: int | None = None
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """Limits, to be enforced by cgroups."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory = field(default_factory=Memory)
    cpu: Cpu = field(default_factory=Cpu)
    pids: Pids = field(default_factory=Pids)
    block_io: BlockIo = field(default_factory=BlockIo)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linux:
    """What is special to Linux. ``cgroups_path`` is relative to every hierarchy's root."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    sysctl: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    cgroups_path: str = ""
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A whole ``config.json``."""

    root: Root
    process: Process
    hostname: str = ""
    domainname: str = ""
    mounts: tuple[Mount, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    linux: Linux = field(default_factory=Linux)
    oci_version: str = OCI_VERSION
