"""What a user asks for, on what image, on what host -> what the engine takes; pure but for looking at named devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from lab.container import port_bindings
from lab.container.defaults import ContainerConfig, NamespaceMode
from lab.container.options import cgroups, devices, limits, mounts, security
from lab.container.options.run import RunOptions
from lab.container.options.sharing import sharing
from lab.container.options.signals import signal_number
from lab.container.spec.image import ExecutionConfig
from lab.container.spec.runtime import Device, DeviceRule
from lab.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a configuration takes from the host, found beforehand.

    ``read`` gives the text of a file that an option names; ``environ`` is the caller's environment, for variables that
    are named without a value; ``init_program`` is the host's path of the program of --init; ``limits`` is what can be
    limited; ``rootless`` if the engine is not root's.
    """

    bounding_set: int
    read: Callable[[str], str]
    environ: Mapping[str, str] = field(default_factory=dict)
    init_program: str = ""
    limits: cgroups.HostLimits = field(default_factory=cgroups.HostLimits)
    rootless: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """A container's configuration, and what to tell the user about it."""

    config: ContainerConfig
    warnings: tuple[str, ...] = ()


def _absolute(path: str) -> str:
    if path and not os.path.isabs(path):
        raise SpecError(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return path


def configure(
    container_id: str, options: RunOptions, image: ExecutionConfig, layers: tuple[str, ...], around: Surroundings
) -> Configured:
    """Return the configuration of a container, with docker's rules for what the image says and the user may replace.

    Raises:
        SpecError: an option is wrong, or there is no command.
    """
    _check_what_comes_later(options)
    granted = security.capabilities(
        options.cap_add, options.cap_drop, privileged=options.privileged, bounding_set=around.bounding_set
    )
    secured = security.security_options(options.security_options, read=around.read)
    shared = sharing(options, read=around.read, rootless=around.rootless)
    nodes, rules = _devices(options)
    config = ContainerConfig(
        id=container_id,
        args=arguments(options, image),
        layers=layers,
        env=environment(image.env, options.env, around.environ),
        cwd=_absolute(options.workdir) or image.working_dir or "/",
        hostname=shared.hostname,
        domainname=options.domainname,
        user=options.user or image.user or "0",
        additional_groups=options.groups,
        mounts=(*map(mounts.tmpfs, options.tmpfs), *mounts.tmpfs_of_mounts(options.mounts)),
        shm_bytes=options.shm_bytes if options.shm_bytes is not None else 64 << 20,
        resources=cgroups.resources(options, around.limits, rules),
        rlimits=limits.ulimits(options.ulimits),
        oom_score_adj=None if options.oom_score_adj is None else limits.oom_score_adj(options.oom_score_adj),
        sysctls=limits.sysctls(
            options.sysctls,
            own_ipc=shared.ipc != NamespaceMode.HOST,
            own_network=shared.network_namespace != NamespaceMode.HOST,
        ),
        devices=nodes,
        capabilities=granted.names,
        privileged=options.privileged,
        seccomp=secured.seccomp,
        unmasked=secured.unmasked,
        read_only=options.read_only,
        no_new_privileges=secured.no_new_privileges,
        network=shared.network,
        network_namespace=shared.network_namespace,
        pid=shared.pid,
        ipc=shared.ipc,
        uts=shared.uts,
        cgroupns=shared.cgroupns,
        uid_mappings=shared.users.uid_mappings,
        gid_mappings=shared.users.gid_mappings,
        init=around.init_program if options.init else "",
        terminal=options.terminal,
        cgroup_parent=os.path.normpath(f"/{options.cgroup_parent}").strip("/") or "lab",  # never above the root
        volatile=options.removes,
        detached=True,
    )
    return Configured(config=config, warnings=(*granted.warnings, *shared.warnings))


def _check_what_comes_later(options: RunOptions) -> None:
    """Check what only a start or a stop needs, which would come too late to complain."""
    port_bindings.published(options.publish)
    for text in options.expose:
        if not port_bindings.ports(text):
            raise SpecError(f"invalid range format for --expose: {text}")
    if options.stop_signal:
        signal_number(options.stop_signal)


def arguments(options: RunOptions, image: ExecutionConfig) -> tuple[str, ...]:
    """Return the program and its arguments: an entrypoint that is given takes the image's command away.

    Raises:
        SpecError: there is neither entrypoint nor command.
    """
    entrypoint = image.entrypoint if options.entrypoint is None else options.entrypoint
    default = image.cmd if options.entrypoint is None else ()
    found = (*entrypoint, *(options.command or default))
    if not found:
        raise SpecError("no command specified", hint="give one after the image")
    return found


def environment(image: tuple[str, ...], given: tuple[str, ...], environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that are given, then the image's others; a name alone takes its value from ``environ``.

    A name that has no value there removes the image's.
    """
    found: dict[str, str | None] = {}
    for line in given:
        name, separator, _ = line.partition("=")
        found[name] = line if separator else f"{name}={environ[name]}" if name in environ else None
    for line in image:
        found.setdefault(line.partition("=")[0], line)
    return tuple(line for line in found.values() if line is not None)


def _devices(options: RunOptions) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    nodes: list[Device] = list(devices.all_of_host()) if options.privileged else []
    rules: list[DeviceRule] = [DeviceRule(allow=True)] if options.privileged else []
    for text in options.devices:
        found, allowed = devices.find(devices.device(text))
        nodes += found
        rules += allowed
    return tuple(nodes), (*rules, *map(devices.device_rule, options.device_rules))
