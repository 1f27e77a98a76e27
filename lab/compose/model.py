"""A compose project: what its files say, complete and unambiguous; frozen nouns.

Every short form is long here, every path absolute, every variable replaced, every duration in nanoseconds, every size
in bytes. The names are those of the compose specification, with units. None or empty is "not said".

Source: https://github.com/compose-spec/compose-spec/blob/main/spec.md.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

DEFAULT_NETWORK = "default"
ALL_PROFILES = "*"
SECRETS = "/run/secrets"  # where a secret is in a container, if its target is no absolute path


class Condition(StrEnum):
    """What a service waits for before it starts."""

    STARTED = "service_started"
    HEALTHY = "service_healthy"
    COMPLETED = "service_completed_successfully"


class MountType(StrEnum):
    """What is mounted in a container."""

    BIND = "bind"
    VOLUME = "volume"
    TMPFS = "tmpfs"
    IMAGE = "image"


class WatchAction(StrEnum):
    """What `watch` does when a file has changed."""

    SYNC = "sync"
    REBUILD = "rebuild"
    RESTART = "restart"
    SYNC_RESTART = "sync+restart"
    SYNC_EXEC = "sync+exec"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """That a service needs another one.

    If it is not ``required``, the service starts without one that cannot be had. With ``restart`` it restarts after
    compose has restarted or replaced the other.
    """

    condition: Condition = Condition.STARTED
    required: bool = True
    restart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Another service under one more name."""

    service: str
    alias: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One port of a container that the host publishes; a range of them is as many ports.

    ``published_first`` to ``published_last`` are where it is on the host, the first free one; 0 is any. ``host_ip`` is
    "" for every address. ``mode``, ``name`` and ``app_protocol`` are for other readers of the file.
    """

    target: int
    published_first: int = 0
    published_last: int = 0
    host_ip: str = ""
    protocol: str = "tcp"
    mode: str = "ingress"
    name: str = ""
    app_protocol: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceVolume:
    """What is mounted at ``target``: in the order of a bind's fields, a volume's, a tmpfs's.

    ``source`` is an absolute path of the host for a bind, the key of a volume of the project or "" (anonymous) for a
    volume, a reference for an image. ``tmpfs_mode`` is permission bits. ``labels`` are an anonymous volume's.
    """

    type: MountType
    target: str
    source: str = ""
    read_only: bool = False
    consistency: str = ""
    propagation: str = ""
    create_host_path: bool = False
    recursive: str = ""
    selinux: str = ""
    nocopy: bool = False
    subpath: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    tmpfs_size_bytes: int | None = None
    tmpfs_mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceNetwork:
    """A service's place on a network of the project; the highest ``priority`` is connected first."""

    aliases: tuple[str, ...] = ()
    ipv4_address: str = ""
    ipv6_address: str = ""
    link_local_ips: tuple[str, ...] = ()
    mac_address: str = ""
    interface_name: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    priority: int = 0
    gw_priority: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Healthcheck:
    """How a container is asked whether it is well.

    ``test`` begins with "CMD" or "CMD-SHELL", or is "NONE" if the check is to ``disable``; empty is the image's.
    """

    test: tuple[str, ...] = ()
    interval_ns: int | None = None
    timeout_ns: int | None = None
    retries: int | None = None
    start_period_ns: int | None = None
    start_interval_ns: int | None = None
    disable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReference:
    """A config or a secret in a container, or a secret in a build: ``source`` is its key in the project.

    ``target`` is an absolute path for containers, an id for builds. ``mode`` is permission bits.
    """

    source: str
    target: str
    uid: str = ""
    gid: str = ""
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvFile:
    """A file of variables; its content is in the service's ``environment`` already. ``format`` is "" or "raw"."""

    path: str
    required: bool = True
    format: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ulimit:
    """A resource limit; -1 is none."""

    soft: int
    hard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Logging:
    """Where a container's output goes; "" is the engine's driver."""

    driver: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Limits, or reservations, of one container: processors' worth of time, memory, processes."""

    cpus: float | None = None
    memory_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """deploy.restart_policy: ``condition`` is "none", "on-failure" or "any"."""

    condition: str = "any"
    delay_ns: int | None = None
    max_attempts: int | None = None
    window_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """The deploy section, as far as one host can follow it."""

    mode: str = ""
    replicas: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    reservations: ResourceLimits = field(default_factory=ResourceLimits)
    restart_policy: RestartPolicy | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """How a service's image is built.

    ``context`` is an absolute path or a URL; ``dockerfile`` is below it, or absolute. ``args`` whose value is None have
    none. ``extra_hosts`` are "NAME:ADDRESS".
    """

    context: str
    dockerfile: str = "Dockerfile"
    dockerfile_inline: str = ""
    args: Mapping[str, str | None] = field(default_factory=dict)
    target: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    network: str = ""
    no_cache: bool = False
    pull: bool = False
    shm_bytes: int | None = None
    extra_hosts: tuple[str, ...] = ()
    secrets: tuple[FileReference, ...] = ()
    additional_contexts: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    platforms: tuple[str, ...] = ()
    ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    privileged: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchRule:
    """What `watch` does when a file at or below ``path`` changes; ``ignore`` and ``include`` are patterns below it.

    ``target`` is where it goes in the container. ``command`` is what "sync+exec" runs there.
    """

    action: WatchAction
    path: str
    target: str = ""
    ignore: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    initial_sync: bool = False
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A command in a container after it has started, or before it is stopped."""

    command: tuple[str, ...]
    user: str = ""
    privileged: bool = False
    working_dir: str = ""
    environment: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """One service: any number of equal containers.

    ``command`` and ``entrypoint`` are None for the image's own, empty for none. ``environment`` is complete: with the
    content of the ``env_files`` below it, and None for a variable that is not to be set. ``depends_on`` has what other
    fields imply as well. ``networks`` are in the order of the file; none where ``network_mode`` says "host", "none",
    "service:NAME", "container:NAME"… ``extra_hosts`` are "NAME:ADDRESS", ``devices`` "HOST:CONTAINER:ACCESS",
    ``blkio_config`` "FLAG=VALUE" of docker's flags for block devices, ``expose`` "PORT[-PORT][/PROTOCOL]", ``tmpfs``
    "PATH[:OPTIONS]". ``memswap_limit_bytes`` and ``pids_limit`` are -1 for no limit. ``init`` is None for the engine's
    default.
    """

    name: str
    image: str = ""
    build: Build | None = None
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    env_files: tuple[EnvFile, ...] = ()
    profiles: tuple[str, ...] = ()
    depends_on: Mapping[str, Dependency] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    external_links: tuple[str, ...] = ()
    container_name: str = ""
    scale: int | None = None
    deploy: Deploy = field(default_factory=Deploy)
    restart: str = ""
    attach: bool = True
    pull_policy: str = ""
    platform: str = ""
    runtime: str = ""

    ports: tuple[Port, ...] = ()
    expose: tuple[str, ...] = ()
    networks: Mapping[str, ServiceNetwork] = field(default_factory=dict)
    network_mode: str = ""
    mac_address: str = ""
    hostname: str = ""
    domainname: str = ""
    extra_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()

    volumes: tuple[ServiceVolume, ...] = ()
    volumes_from: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    configs: tuple[FileReference, ...] = ()
    secrets: tuple[FileReference, ...] = ()

    user: str = ""
    group_add: tuple[str, ...] = ()
    working_dir: str = ""
    tty: bool = False
    stdin_open: bool = False
    init: bool | None = None
    stop_signal: str = ""
    stop_grace_period_ns: int | None = None
    healthcheck: Healthcheck | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    logging: Logging | None = None
    post_start: tuple[Hook, ...] = ()
    pre_stop: tuple[Hook, ...] = ()
    watch: tuple[WatchRule, ...] = ()

    cpus: float | None = None
    cpuset: str = ""
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    mem_limit_bytes: int | None = None
    mem_reservation_bytes: int | None = None
    memswap_limit_bytes: int | None = None
    mem_swappiness: int | None = None
    oom_kill_disable: bool = False
    oom_score_adj: int | None = None
    pids_limit: int | None = None
    shm_bytes: int | None = None
    blkio_config: tuple[str, ...] = ()
    ulimits: Mapping[str, Ulimit] = field(default_factory=dict)
    sysctls: Mapping[str, str] = field(default_factory=dict)

    privileged: bool = False
    read_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    ipc: str = ""
    pid: str = ""
    uts: str = ""
    userns_mode: str = ""
    cgroup: str = ""
    cgroup_parent: str = ""

    @property
    def replicas(self) -> int:
        """How many containers the file asks for."""
        if self.scale is not None:
            return self.scale
        return 1 if self.deploy.replicas is None else self.deploy.replicas


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressPool:
    """One subnet of a network."""

    subnet: str = ""
    ip_range: str = ""
    gateway: str = ""
    aux_addresses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network of the project: ``key`` in the file, ``name`` on the host. One that is ``external`` is there already.

    ``enable_ipv4`` and ``enable_ipv6`` are None for the engine's default.
    """

    key: str
    name: str
    external: bool = False
    driver: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    ipam_driver: str = ""
    ipam_pools: tuple[AddressPool, ...] = ()
    ipam_options: Mapping[str, str] = field(default_factory=dict)
    internal: bool = False
    attachable: bool = False
    enable_ipv4: bool | None = None
    enable_ipv6: bool | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume of the project: ``key`` in the file, ``name`` on the host. One that is ``external`` is there already."""

    key: str
    name: str
    external: bool = False
    driver: str = ""
    driver_opts: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileObject:
    """A config or a secret of the project: exactly one of ``file`` (a path), ``environment`` (a variable), ``content``.

    ``content`` is None where it is not said. An ``external`` one has none of them: only a swarm could give it.
    """

    key: str
    name: str
    file: str = ""
    environment: str = ""
    content: str | None = None
    external: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A whole project: the objects by their keys, in the order of the files.

    ``services`` has those that no active profile asks for as well: see ``is_active``. ``networks`` and ``volumes`` are
    those that the files declare, and the default network if a service is on it. ``environment`` is what variables were
    replaced from. ``warnings`` are sentences to tell the user once.
    """

    name: str
    working_directory: str
    files: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    services: Mapping[str, Service] = field(default_factory=dict)
    networks: Mapping[str, Network] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    configs: Mapping[str, FileObject] = field(default_factory=dict)
    secrets: Mapping[str, FileObject] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def is_active(self, name: str) -> bool:
        """Return whether a service belongs to what `up` without names starts."""
        return is_asked_for(self.services[name].profiles, self.profiles)


def is_asked_for(wanted: Sequence[str], active: Collection[str]) -> bool:
    """Return whether a service that names the profiles ``wanted``, if any, is active with those that are."""
    return not wanted or ALL_PROFILES in active or not set(wanted).isdisjoint(active)
