"""What a user asks for with `run` and `create`, as data that is kept with the container.

The fields are docker's flags, with units in their names; None or empty is "not said". ``configure`` makes of it, and
of the image, what the engine takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lab.container.network.model import Endpoint
from lab.container.spec.image import Healthcheck

RESTART_NEVER = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """All that can be said of a container before it exists; texts of flags are as users write them.

    ``entrypoint`` is None for the image's own and empty for none. ``env`` has "NAME=VALUE" only. ``cpus`` are
    processors' worth of time. ``restart`` is a policy's name with ``restarts_most`` (0: any number) beside it.
    ``endpoints`` are its networks with what is asked for there, the first one being ``network``; none: that one alone.
    ``block_io`` has "FLAG=VALUE" of the flags for block devices. ``stop_timeout_s`` is None for ten seconds, negative
    for ever. ``health_on_failure`` is "none", "kill", "restart" or "stop".
    """

    image: str
    platform: str = ""
    command: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    hostname: str = ""
    domainname: str = ""
    workdir: str = ""
    user: str = ""
    groups: tuple[str, ...] = ()
    terminal: bool = False
    open_stdin: bool = False
    removes: bool = False
    restart: str = RESTART_NEVER
    restarts_most: int = 0
    stop_signal: str = ""
    stop_timeout_s: int | None = None
    init: bool = False
    healthcheck: Healthcheck | None = None
    health_on_failure: str = "none"
    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    memory_swappiness: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_period_us: int | None = None
    cpu_quota_us: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids_limit: int | None = None
    block_io: tuple[str, ...] = ()
    oom_score_adj: int | None = None
    oom_kill_disable: bool = False
    ulimits: tuple[str, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    security_options: tuple[str, ...] = ()
    read_only: bool = False
    tmpfs: tuple[str, ...] = ()
    shm_bytes: int | None = None
    sysctls: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_rules: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    volumes_from: tuple[str, ...] = ()
    network: str = "bridge"
    endpoints: tuple[Endpoint, ...] = ()
    publish: tuple[str, ...] = ()
    publish_all: bool = False
    expose: tuple[str, ...] = ()
    add_hosts: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    userns: str = ""
    cgroupns: str = ""
    cgroup_parent: str = ""
    log_driver: str = "json-file"
    log_options: Mapping[str, str] = field(default_factory=dict)
    trusts_host_ca: bool = False
