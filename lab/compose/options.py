"""A service -> what its containers are created with: the options that `lab create` makes of its flags; pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from lab.compose import naming
from lab.compose.model import MountType, Port, Project, Service, ServiceNetwork, ServiceVolume
from lab.container.network.model import Endpoint
from lab.container.options.endpoints import hardware_address, ip
from lab.container.options.run import RESTART_NEVER, RunOptions
from lab.container.spec.image import Healthcheck
from lab.container.supervision import POLICIES
from lab.errors import SpecError
from lab.units import NS_PER_S

_PREFIX = "container:"
_DEPLOY_RESTARTS = {"none": RESTART_NEVER, "on-failure": "on-failure", "any": "always"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which of a service's containers is meant, and what only the time of its creation tells.

    ``inherits`` are anonymous volumes of the container before it, by their path inside; ``of_image`` the paths at which
    its image wants some. ``files`` are the paths of the host at which configs and secrets are, by theirs inside.
    """

    number: int = 1
    image_id: str = ""
    inherits: Mapping[str, str] = field(default_factory=dict)
    of_image: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)


def options_of(project: Project, service: Service, place: Place) -> RunOptions:
    """Return what a container of a service is created with.

    Raises:
        SpecError: the service asks for what this engine does not have.
    """
    _refuse_unknown(service)
    options = RunOptions(image=naming.image_name(project, service))
    options = _with_program(options, service)
    options = _with_life(options, service)
    options = _with_limits(options, service)
    options = _with_rights(options, service)
    options = _with_network(options, project, service, naming.container_name(project, service, place.number))
    options = _with_mounts(options, project, service, place)
    return replace(options, labels=naming.container_labels(project, service, place.number, image_id=place.image_id))


def _refuse_unknown(service: Service) -> None:
    refused = {
        "external_links": service.external_links,
        "volumes of type image": [each for each in service.volumes if each.type == MountType.IMAGE],
        "link_local_ips": [each for each in service.networks.values() if each.link_local_ips],
    }
    for what, given in refused.items():
        if given:
            raise SpecError(f"service {service.name}: {what} cannot be had on this engine", hint="leave it out")


def _with_program(options: RunOptions, service: Service) -> RunOptions:
    return replace(
        options,
        command=service.command or (),
        entrypoint=service.entrypoint,
        env=tuple(f"{name}={value}" for name, value in service.environment.items() if value is not None),
        annotations=dict(service.annotations),
        hostname=service.hostname,
        domainname=service.domainname,
        workdir=service.working_dir,
        user=service.user,
        groups=service.group_add,
        terminal=service.tty,
        open_stdin=service.stdin_open,
    )


def _with_life(options: RunOptions, service: Service) -> RunOptions:
    policy, most = restart_policy(service)
    logging = service.logging
    grace_ns = service.stop_grace_period_ns
    return replace(
        options,
        restart=policy,
        restarts_most=most,
        stop_signal=service.stop_signal,
        stop_timeout_s=None if grace_ns is None else -(-grace_ns // NS_PER_S),
        init=bool(service.init),
        healthcheck=_healthcheck(service),
        log_driver=(logging and logging.driver) or options.log_driver,
        log_options={} if logging is None else dict(logging.options),
    )


def restart_policy(service: Service) -> tuple[str, int]:
    """Return a policy's name and the most restarts, 0 for any number: that of the service, else that of its deploy.

    Raises:
        SpecError: there is no such policy.
    """
    name, _, most = service.restart.partition(":")
    if not name and service.deploy.restart_policy is not None:
        given = service.deploy.restart_policy
        name = _DEPLOY_RESTARTS.get(given.condition, given.condition)
        most = str(given.max_attempts or 0) if name == "on-failure" else ""
    name = name or RESTART_NEVER
    if name not in POLICIES or (most and not most.isdecimal()):
        raise SpecError(f"service {service.name}: invalid restart policy '{service.restart or name}'")
    return name, int(most or 0)


def _healthcheck(service: Service) -> Healthcheck | None:
    given = service.healthcheck
    if given is None:
        return None
    if given.disable:
        return Healthcheck(test=("NONE",))
    return Healthcheck(
        test=given.test,
        interval=given.interval_ns or 0,
        timeout=given.timeout_ns or 0,
        start_period=given.start_period_ns or 0,
        start_interval=given.start_interval_ns or 0,
        retries=given.retries or 0,
    )


def _with_limits(options: RunOptions, service: Service) -> RunOptions:
    limits, reservations = service.deploy.limits, service.deploy.reservations
    return replace(
        options,
        memory_bytes=service.mem_limit_bytes or limits.memory_bytes,
        memory_swap_bytes=service.memswap_limit_bytes,
        memory_reservation_bytes=service.mem_reservation_bytes or reservations.memory_bytes,
        memory_swappiness=service.mem_swappiness,
        cpus=service.cpus or limits.cpus,
        cpu_shares=service.cpu_shares,
        cpu_period_us=service.cpu_period_us,
        cpu_quota_us=service.cpu_quota_us,
        cpuset_cpus=service.cpuset,
        pids_limit=service.pids_limit or limits.pids,
        block_io=service.blkio_config,
        oom_score_adj=service.oom_score_adj,
        oom_kill_disable=service.oom_kill_disable,
        ulimits=tuple(f"{name}={each.soft}:{each.hard}" for name, each in service.ulimits.items()),
        shm_bytes=service.shm_bytes,
    )


def _with_rights(options: RunOptions, service: Service) -> RunOptions:
    return replace(
        options,
        cap_add=service.cap_add,
        cap_drop=service.cap_drop,
        privileged=service.privileged,
        security_options=service.security_opt,
        read_only=service.read_only,
        sysctls=tuple(f"{name}={value}" for name, value in service.sysctls.items()),
        devices=service.devices,
        device_rules=service.device_cgroup_rules,
        userns=service.userns_mode,
        cgroupns=service.cgroup,
        cgroup_parent=service.cgroup_parent,
        uts=service.uts,
    )


def _with_network(options: RunOptions, project: Project, service: Service, name: str) -> RunOptions:
    endpoints = _endpoints(project, service, name)
    network = _mode(project, service.network_mode) or (endpoints[0].network if endpoints else "none")
    return replace(
        options,
        network=network,
        endpoints=endpoints,
        publish=tuple(map(published, service.ports)),
        expose=service.expose,
        add_hosts=service.extra_hosts,
        dns=service.dns,
        dns_search=service.dns_search,
        dns_options=service.dns_opt,
        pid=_mode(project, service.pid),
        ipc=_mode(project, service.ipc),
    )


def _mode(project: Project, text: str) -> str:
    """Return a mode with the container that it joins in place of the service."""
    name = naming.joined(text)
    return f"{_PREFIX}{naming.container_name(project, project.services[name], 1)}" if name else text


def _endpoints(project: Project, service: Service, name: str) -> tuple[Endpoint, ...]:
    """Return the networks of a container, the most important one first, with the names that it has there."""
    if service.network_mode:
        return ()
    ordered = sorted(service.networks.items(), key=lambda each: -each[1].priority)  # stable: else the file's order
    links = tuple(
        link.alias for other in project.services.values() for link in other.links if link.service == service.name
    )
    found = [_endpoint(project.networks[key].name, place, (name, service.name, *links)) for key, place in ordered]
    if found and service.mac_address and not found[0].mac:
        found[0] = replace(found[0], mac=hardware_address(service.mac_address))
    return tuple(found)


def _endpoint(network: str, place: ServiceNetwork, names: tuple[str, ...]) -> Endpoint:
    return Endpoint(
        network=network,
        aliases=tuple(dict.fromkeys((*names, *place.aliases))),
        address=ip(place.ipv4_address, 4),
        address6=ip(place.ipv6_address, 6),
        mac=hardware_address(place.mac_address),
    )


def published(port: Port) -> str:
    """Return a port as --publish has it."""
    inner = f"{port.target}/{port.protocol}"
    outer = str(port.published_first) if port.published_first else ""
    if port.published_last > port.published_first:
        outer = f"{port.published_first}-{port.published_last}"
    if port.host_ip:
        address = f"[{port.host_ip}]" if ":" in port.host_ip else port.host_ip
        return f"{address}:{outer}:{inner}"
    return f"{outer}:{inner}" if outer else inner


def _with_mounts(options: RunOptions, project: Project, service: Service, place: Place) -> RunOptions:
    made = [each for each in service.volumes if _is_made(each)]
    texts = [_mount(project, each, place.inherits) for each in service.volumes if not _is_made(each)]
    said = {each.target for each in service.volumes}
    for path in dict.fromkeys((*place.inherits, *place.of_image)):
        if path not in said:
            volume = ServiceVolume(type=MountType.VOLUME, target=path)
            texts.append(_mount(project, volume, place.inherits))
    texts += [
        _csv((("type", "bind"), ("source", source), ("target", path), ("readonly", "true")))
        for path, source in place.files.items()
    ]
    return replace(
        options,
        tmpfs=service.tmpfs,
        volumes=tuple(map(_volume, made)),
        mounts=tuple(texts),
        volumes_from=tuple(_source(project, text) for text in service.volumes_from),
    )


def _is_made(each: ServiceVolume) -> bool:
    """Return whether the host's path is made where it is not there, which is what --volume does."""
    return each.type == MountType.BIND and each.create_host_path and ":" not in each.source


def _volume(each: ServiceVolume) -> str:
    said = (each.propagation, each.selinux, "ro" if each.read_only else "")
    mode = ",".join(word for word in said if word)
    return f"{each.source}:{each.target}:{mode}" if mode else f"{each.source}:{each.target}"


def _mount(project: Project, each: ServiceVolume, inherits: Mapping[str, str]) -> str:
    source = _source_of(project, each) or inherits.get(each.target, "")
    labels = dict(each.labels)
    if each.type == MountType.VOLUME and not source:
        labels[naming.PROJECT] = project.name  # so that `down -v` finds it when its container is gone
    return _csv(
        (
            ("type", each.type.value),
            ("source", source),
            ("target", each.target),
            ("readonly", "true" if each.read_only else ""),
            ("bind-propagation", each.propagation),
            ("bind-recursive", each.recursive),
            ("volume-nocopy", "true" if each.nocopy else ""),
            ("volume-subpath", each.subpath),
            *(("volume-label", f"{name}={value}") for name, value in labels.items()),
            ("tmpfs-size", "" if each.tmpfs_size_bytes is None else str(each.tmpfs_size_bytes)),
            ("tmpfs-mode", "" if each.tmpfs_mode is None else f"{each.tmpfs_mode:o}"),
        )
    )


def _source_of(project: Project, each: ServiceVolume) -> str:
    if each.type != MountType.VOLUME or not each.source:
        return each.source
    return project.volumes[each.source].name


def _csv(given: tuple[tuple[str, str], ...]) -> str:
    """Return a mount as --mount has it."""
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(f"{name}={value}" for name, value in given if value)
    return line.getvalue()


def _source(project: Project, text: str) -> str:
    """Return what --volumes-from takes of "SERVICE[:ro]" or "container:NAME[:ro]"."""
    if text.startswith(_PREFIX):
        return text.removeprefix(_PREFIX)
    name, colon, mode = text.partition(":")
    return f"{naming.container_name(project, project.services[name], 1)}{colon}{mode}"


def anonymous_targets(service: Service, of_image: tuple[str, ...]) -> Iterator[str]:
    """Give the paths at which a service's containers have volumes that nobody named."""
    named = {each.target for each in service.volumes if each.source or each.type != MountType.VOLUME}
    said = (each.target for each in service.volumes if each.type == MountType.VOLUME and not each.source)
    yield from dict.fromkeys((*said, *(path for path in of_image if path not in named)))
