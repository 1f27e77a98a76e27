"""What a container is unless told otherwise: the defaults that docker's users know, as an OCI configuration; pure.

``lab.container.options`` turns the texts of docker's flags into the fields of ``ContainerConfig``.

Source: docs.docker.com/engine/security, and what `docker inspect` and /proc of a running container show.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lab.container.options.mounts import check_destination
from lab.container.spec.runtime import (
    JOINS,
    Capabilities,
    ConsoleSize,
    Device,
    DeviceRule,
    IdMapping,
    Linux,
    Mount,
    Namespace,
    NamespaceType,
    Process,
    Resources,
    Rlimit,
    Root,
    Spec,
    User,
)

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

_SAFE = ("nosuid", "noexec", "nodev")
MOUNTS = (
    Mount(destination="/proc", type="proc", source="proc", options=_SAFE),
    Mount(
        destination="/dev",
        type="tmpfs",
        source="tmpfs",
        options=("nosuid", "strictatime", "mode=755", "size=65536k"),
    ),
    Mount(
        destination="/dev/pts",
        type="devpts",
        source="devpts",
        options=("nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
    ),
    Mount(destination="/dev/shm", type="tmpfs", source="shm", options=(*_SAFE, "mode=1777", "size=65536k")),
    Mount(destination="/dev/mqueue", type="mqueue", source="mqueue", options=_SAFE),
    Mount(destination="/sys", type="sysfs", source="sysfs", options=(*_SAFE, "ro")),
    Mount(destination="/sys/fs/cgroup", type="cgroup", source="cgroup", options=(*_SAFE, "relatime", "ro")),
)

DEVICE_RULES = (
    DeviceRule(allow=False),
    DeviceRule(allow=True, type="c", access="m"),  # mknod is harmless: opening is what counts
    DeviceRule(allow=True, type="b", access="m"),
    *(DeviceRule(allow=True, type="c", major=1, minor=minor) for minor in (3, 5, 7, 8, 9)),
    *(DeviceRule(allow=True, type="c", major=5, minor=minor) for minor in (0, 1, 2)),
    DeviceRule(allow=True, type="c", major=136),
)

NAMESPACES = tuple(Namespace(type=kind) for kind in NamespaceType if kind != NamespaceType.USER)


class ContainerNetwork(StrEnum):
    """How a container is connected; its network namespace is its own either way."""

    NONE = "none"
    BRIDGE = "bridge"


class NamespaceMode(StrEnum):
    """Whose namespace a container has; "container:ID" is that of another one, and no member."""

    PRIVATE = "private"
    HOST = "host"


SECCOMP_ANNOTATION = "lab.seccomp"
"""Under this name a container keeps a profile's text that is not the default one; "" is no filter."""

INIT_PATH = "/sbin/docker-init"
"""Where the program of ``--init`` is inside a container: docker's place, which its users see in `ps`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """A container as its creator sees it; what is not said is as docker does it.

    ``image`` is a manifest digest of the store, or ``layers`` are given: directories, topmost first. ``user`` is
    "USER[:GROUP]" by the image's own files, whose root also decides then about groups and HOME; "" is a root that is
    not looked up. ``capabilities`` are names from ``options.security``; ``privileged`` adds the host's ``devices`` by
    ``options.devices``, and takes away filter, masks and read-only mounts of the kernel's file systems. ``seccomp`` is
    a profile's text, None for the default one, "" for no filter. ``mounts`` are binds and tmpfs (from
    ``options.mounts``) in any order: the outer one of nested ones is mounted first, and one at the place of a default
    mount replaces it. ``shm_bytes`` is the size of /dev/shm. ``pid``, ``ipc``, ``uts``, ``cgroupns`` and
    ``network_namespace`` are a ``NamespaceMode`` or "container:ID" with a whole id; ``ipc`` also "none". With
    ``uid_mappings`` and ``gid_mappings``, from ``options.users``, it has a user namespace of its own; a ``rootless``
    one is what ``rootless.reduced`` makes. ``init`` is the host's path of a program that runs as process 1 and starts
    ``args``, from ``init_program``. A ``terminal`` is handed over as ``init_calls.open_console`` says.
    ``cgroup_parent`` is relative to every hierarchy's root. ``volatile`` leaves out every sync of the container's
    layer: it cannot outlive a crash. ``anonymous_volumes`` are paths that get a fresh directory of the host, which goes
    with the container. A ``detached`` container outlives the engine that started it.
    """

    id: str
    args: tuple[str, ...]
    image: str = ""
    layers: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    hostname: str = ""
    domainname: str = ""
    user: str = ""
    additional_groups: tuple[str, ...] = ()
    mounts: tuple[Mount, ...] = ()
    anonymous_volumes: tuple[str, ...] = ()
    shm_bytes: int = 64 << 20
    resources: Resources = field(default_factory=Resources)
    rlimits: tuple[Rlimit, ...] = ()
    oom_score_adj: int | None = None
    sysctls: Mapping[str, str] = field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    capabilities: tuple[str, ...] = CAPABILITIES
    privileged: bool = False
    seccomp: str | None = None
    unmasked: bool = False
    read_only: bool = False
    no_new_privileges: bool = False
    network: ContainerNetwork = ContainerNetwork.NONE
    pid: str = NamespaceMode.PRIVATE
    ipc: str = NamespaceMode.PRIVATE
    network_namespace: str = NamespaceMode.PRIVATE
    uts: str = NamespaceMode.PRIVATE
    cgroupns: str = NamespaceMode.PRIVATE
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    rootless: bool = False
    init: str = ""
    terminal: bool = False
    console_size: ConsoleSize = field(default_factory=ConsoleSize)
    cgroup_parent: str = "lab"
    volatile: bool = False
    detached: bool = False


def spec(config: ContainerConfig, rootfs: str, volume_directories: tuple[str, ...]) -> Spec:
    """Return the whole OCI configuration of a container whose root file system will be at ``rootfs``.

    ``volume_directories`` are those of its anonymous volumes, in their order.
    """
    hostname = config.hostname or config.id[:12]
    exposed = config.privileged or config.unmasked
    return Spec(
        root=Root(path=rootfs, readonly=config.read_only),
        process=process(config, hostname),
        hostname=hostname,
        domainname=config.domainname,
        mounts=mounts(config, volume_directories),
        annotations={} if _profile(config) is None else {SECCOMP_ANNOTATION: _profile(config) or ""},
        linux=Linux(
            namespaces=namespaces(config),
            uid_mappings=config.uid_mappings,
            gid_mappings=config.gid_mappings,
            resources=_with_devices(config),
            cgroups_path=os.path.join(config.cgroup_parent, config.id),
            devices=config.devices,
            sysctl=config.sysctls,
            masked_paths=() if exposed else MASKED_PATHS,
            readonly_paths=() if exposed else READONLY_PATHS,
        ),
    )


def _profile(config: ContainerConfig) -> str | None:
    return "" if config.privileged and config.seccomp is None else config.seccomp


def seccomp_profile(spec: Spec) -> str | None:
    """Return the text of a container's profile, None for the default one, "" for no filter."""
    return spec.annotations.get(SECCOMP_ANNOTATION)


def process(config: ContainerConfig, hostname: str) -> Process:
    """Return the main process: docker's environment first, then the container's own, which may replace it.

    HOME is not in it where the user is looked up: init finds it in the same place.
    """
    return Process(
        args=(INIT_PATH, "--", *config.args) if config.init else config.args,
        cwd=config.cwd,
        env=_environment(config, hostname),
        user=User(username=config.user, additional_groups=config.additional_groups),
        capabilities=capability_sets(config.capabilities),
        rlimits=config.rlimits,
        no_new_privileges=config.no_new_privileges,
        terminal=config.terminal,
        console_size=config.console_size,
        oom_score_adj=config.oom_score_adj,
    )


def _environment(config: ContainerConfig, hostname: str) -> tuple[str, ...]:
    given = {line.partition("=")[0] for line in config.env}
    terminal = ("TERM=xterm",) if config.terminal else ()
    home = () if config.user else ("HOME=/root",)
    basic = (PATH, f"HOSTNAME={hostname}", *terminal, *home)
    return (*(line for line in basic if line.partition("=")[0] not in given), *config.env)


def capability_sets(names: tuple[str, ...]) -> Capabilities:
    """Return the sets of a process that may use ``names``; none inheritable or ambient, as docker since 20.10.14."""
    return Capabilities(bounding=names, effective=names, permitted=names)


def namespaces(config: ContainerConfig) -> tuple[Namespace, ...]:
    """Return the namespaces that a container has of its own or of another container; the host's are left out."""
    modes = {
        NamespaceType.PID: config.pid,
        NamespaceType.IPC: config.ipc,
        NamespaceType.NETWORK: config.network_namespace,
        NamespaceType.UTS: config.uts,
        NamespaceType.CGROUP: config.cgroupns,
    }
    users = (Namespace(type=NamespaceType.USER),) if config.uid_mappings else ()
    if all(mode == NamespaceMode.PRIVATE for mode in modes.values()):
        return (*NAMESPACES, *users)
    found = (
        Namespace(type=each.type, path=mode if (mode := modes.get(each.type, "")).startswith(JOINS) else "")
        for each in NAMESPACES
        if modes.get(each.type) != NamespaceMode.HOST
    )
    return (*found, *users)


def mounts(config: ContainerConfig, volume_directories: tuple[str, ...]) -> tuple[Mount, ...]:
    """Return all mounts, in the order in which they are made: the kernel's file systems, then the user's by depth.

    Raises:
        SpecError: one of the user's may not be where it is asked for.
    """
    for mount in config.mounts:
        check_destination(mount.destination)
    given = (*config.mounts, *_volume_mounts(config.anonymous_volumes, volume_directories), *_init_mount(config.init))
    taken = {mount.destination for mount in given}
    basic = (_as_configured(mount, config) for mount in MOUNTS if mount.destination not in taken)
    return (*(mount for mount in basic if mount is not None), *sorted(given, key=_depth))


def _as_configured(mount: Mount, config: ContainerConfig) -> Mount | None:
    if mount.destination == "/dev/shm":
        return _shared_memory(mount, config)
    if mount.type == "sysfs" and config.uid_mappings and config.network_namespace != NamespaceMode.PRIVATE:
        # the kernel lets a user namespace mount only that of its own network
        return Mount(destination="/sys", type="bind", source="/sys", options=("rbind", *mount.options))
    if config.privileged and "ro" in mount.options:
        return replace(mount, options=tuple(option for option in mount.options if option != "ro"))
    return mount


def _shared_memory(mount: Mount, config: ContainerConfig) -> Mount | None:
    if config.ipc == "none":
        return None
    if config.ipc.startswith(JOINS):
        return Mount(destination=mount.destination, type="bind", source=config.ipc)
    if config.ipc == NamespaceMode.HOST:
        return Mount(destination=mount.destination, type="bind", source=mount.destination, options=("rbind", *_SAFE))
    return replace(mount, options=(*_SAFE, "mode=1777", f"size={config.shm_bytes // 1024}k"))


def _depth(mount: Mount) -> int:
    return mount.destination.rstrip("/").count("/")


def _init_mount(program: str) -> tuple[Mount, ...]:
    return (Mount(destination=INIT_PATH, type="bind", source=program, options=("bind", "ro")),) if program else ()


def _volume_mounts(destinations: tuple[str, ...], sources: tuple[str, ...]) -> tuple[Mount, ...]:
    pairs = zip(destinations, sources, strict=True)
    return tuple(Mount(destination=destination, type="bind", source=source) for destination, source in pairs)


def _with_devices(config: ContainerConfig) -> Resources:
    if config.rootless:  # the host keeps its user from what he may not open
        return config.resources
    rules = (DeviceRule(allow=True),) if config.privileged else (*DEVICE_RULES, *config.resources.devices)
    return replace(config.resources, devices=rules)
