"""What a container is unless told otherwise: the defaults that docker's users know, as an OCI configuration; pure.

Source: docs.docker.com/engine/security, and what `docker inspect` and /proc of a running container show.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from enum import StrEnum

from lab.container.spec.runtime import (
    Capabilities,
    DeviceRule,
    Linux,
    Mount,
    Namespace,
    NamespaceType,
    Process,
    Resources,
    Root,
    Spec,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerConfig:
    """A container as its creator sees it; what is not said is as docker does it.

    ``image`` is a manifest digest of the store, or ``layers`` are given: directories, topmost first.
    ``cgroup_parent`` is relative to every hierarchy's root. ``seccomp`` is a profile's text, None for the default
    one, "" for no filter. ``volatile`` leaves out every sync of the container's layer: it cannot outlive a crash.
    ``anonymous_volumes`` are paths that get a fresh directory of the host, which goes with the container.
    A ``detached`` container outlives the engine that started it.
    """

    id: str
    args: tuple[str, ...]
    image: str = ""
    layers: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    hostname: str = ""
    mounts: tuple[Mount, ...] = ()
    anonymous_volumes: tuple[str, ...] = ()
    resources: Resources = field(default_factory=Resources)
    capabilities: tuple[str, ...] = CAPABILITIES
    network: ContainerNetwork = ContainerNetwork.NONE
    cgroup_parent: str = "lab"
    seccomp: str | None = None
    read_only: bool = False
    no_new_privileges: bool = False
    volatile: bool = False
    detached: bool = False


def spec(config: ContainerConfig, rootfs: str, volume_directories: tuple[str, ...]) -> Spec:
    """Return the whole OCI configuration of a container whose root file system will be at ``rootfs``.

    ``volume_directories`` are those of its anonymous volumes, in their order.
    """
    hostname = config.hostname or config.id[:12]
    return Spec(
        root=Root(path=rootfs, readonly=config.read_only),
        process=process(config, hostname),
        hostname=hostname,
        mounts=(*MOUNTS, *config.mounts, *_volume_mounts(config.anonymous_volumes, volume_directories)),
        linux=Linux(
            namespaces=NAMESPACES,
            resources=_with_devices(config.resources),
            cgroups_path=os.path.join(config.cgroup_parent, config.id),
            masked_paths=MASKED_PATHS,
            readonly_paths=READONLY_PATHS,
        ),
    )


def process(config: ContainerConfig, hostname: str) -> Process:
    """Return the main process: docker's environment first, then the container's own, which may replace it."""
    given = {line.partition("=")[0] for line in config.env}
    basic = (PATH, f"HOSTNAME={hostname}", "HOME=/root")
    return Process(
        args=config.args,
        cwd=config.cwd,
        env=(*(line for line in basic if line.partition("=")[0] not in given), *config.env),
        capabilities=capability_sets(config.capabilities),
        no_new_privileges=config.no_new_privileges,
    )


def capability_sets(names: tuple[str, ...]) -> Capabilities:
    """Return the sets of a process that may use ``names``; none inheritable or ambient, as docker since 20.10.14."""
    return Capabilities(bounding=names, effective=names, permitted=names)


def _volume_mounts(destinations: tuple[str, ...], sources: tuple[str, ...]) -> tuple[Mount, ...]:
    pairs = zip(destinations, sources, strict=True)
    return tuple(Mount(destination=destination, type="bind", source=source) for destination, source in pairs)


def _with_devices(resources: Resources) -> Resources:
    return Resources(
        devices=(*DEVICE_RULES, *resources.devices), memory=resources.memory, cpu=resources.cpu, pids=resources.pids
    )
