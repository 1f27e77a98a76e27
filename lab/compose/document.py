"""A Project as the document of `compose config`: a compose file again, in long forms only; pure.

Reading the document gives the same project.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import TypeAlias

from lab.compose import yaml_text
from lab.compose.graph import select
from lab.compose.interpolation import escape
from lab.compose.model import (
    AddressPool,
    Build,
    Deploy,
    FileObject,
    FileReference,
    Healthcheck,
    Hook,
    MountType,
    Network,
    Port,
    Project,
    ResourceLimits,
    RestartPolicy,
    Service,
    ServiceNetwork,
    ServiceVolume,
    Ulimit,
    Volume,
    WatchRule,
)
from lab.units import NS_PER_MS, NS_PER_S, NS_PER_US

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


class Format(StrEnum):
    """How the document is written."""

    YAML = "yaml"
    JSON = "json"


def text(project: Project, form: Format = Format.YAML, names: Sequence[str] = ()) -> str:
    """Return the document of a project as text, which ends with a line end; dollar signs in it are doubled.

    Raises:
        SpecError: there is no service of one of the ``names``.
    """
    found = _escaped(document(project, names))
    return yaml_text.dump(found) if form == Format.YAML else json.dumps(found, indent=2) + "\n"


def document(project: Project, names: Sequence[str] = ()) -> dict[str, Json]:
    """Return a project as plain data, by the keys of a compose file: the named services and what they need.

    No names: every active service.

    Raises:
        SpecError: there is no such service.
    """
    services: Json = {name: service(project.services[name]) for name in sorted(select(project, names))}
    found: dict[str, Json] = {"name": project.name, "services": services}
    found["networks"] = {key: _network(each) for key, each in sorted(project.networks.items())}
    found["volumes"] = {key: _volume(each) for key, each in sorted(project.volumes.items())}
    found["configs"] = {key: _file_object(each) for key, each in sorted(project.configs.items())}
    found["secrets"] = {key: _file_object(each) for key, each in sorted(project.secrets.items())}
    return {key: value for key, value in found.items() if value or key == "services"}


def profiles(project: Project) -> tuple[str, ...]:
    """Return the profiles that any service names, sorted."""
    return tuple(sorted({profile for each in project.services.values() for profile in each.profiles}))


def service(each: Service) -> dict[str, Json]:
    """Return a service by the keys of a compose file, sorted; what is not said is not there."""
    found = {
        **_said(_texts_of(each)),
        **_said(_lists_of(each)),
        **_said(_mappings_of(each)),
        **_numbers_of(each),
        **_words_of(each),
    }
    return dict(sorted(found.items()))


def _texts_of(each: Service) -> dict[str, Json]:
    names = (
        "image", "container_name", "restart", "pull_policy", "platform", "runtime", "network_mode", "mac_address",
        "hostname", "domainname", "user", "working_dir", "stop_signal", "cpuset", "ipc", "pid", "uts", "userns_mode",
        "cgroup", "cgroup_parent", "tty", "stdin_open", "oom_kill_disable", "privileged", "read_only",
    )  # fmt: skip
    return {name: getattr(each, name) for name in names}


def _lists_of(each: Service) -> dict[str, Json]:
    names = (
        "profiles", "external_links", "expose", "dns", "dns_search", "dns_opt", "volumes_from", "tmpfs", "group_add",
        "cap_add", "cap_drop", "security_opt", "device_cgroup_rules",
    )  # fmt: skip
    return {
        **{name: list(getattr(each, name)) for name in names},
        "links": [f"{link.service}:{link.alias}" for link in each.links],
        "ports": [_port(port) for port in each.ports],
        "volumes": [_mount(mount) for mount in each.volumes],
        "configs": [_reference(config) for config in each.configs],
        "secrets": [_reference(secret) for secret in each.secrets],
        "devices": [_device(device) for device in each.devices],
        "post_start": [_hook(hook) for hook in each.post_start],
        "pre_stop": [_hook(hook) for hook in each.pre_stop],
        "extra_hosts": _hosts(each.extra_hosts),
    }


def _mappings_of(each: Service) -> dict[str, Json]:
    waits: dict[str, Json] = {
        name: {"condition": str(other.condition), "required": other.required, "restart": other.restart}
        for name, other in sorted(each.depends_on.items())
    }
    return {
        "environment": dict(sorted(each.environment.items())),
        "labels": dict(sorted(each.labels.items())),
        "annotations": dict(sorted(each.annotations.items())),
        "sysctls": dict(sorted(each.sysctls.items())),
        "depends_on": waits,
        "networks": {name: _place(place) for name, place in each.networks.items()},
        "ulimits": _ulimits(each.ulimits),
        "build": _build(each.build) if each.build is not None else None,
        "deploy": _deploy(each.deploy),
        "healthcheck": _healthcheck(each.healthcheck) if each.healthcheck is not None else None,
        "logging": (
            _said({"driver": each.logging.driver, "options": dict(each.logging.options)}) if each.logging else None
        ),
        "develop": _said({"watch": [_watch_rule(rule) for rule in each.watch]}),
        "blkio_config": _blkio(each.blkio_config),
    }


def _numbers_of(each: Service) -> dict[str, Json]:
    names = ("scale", "cpus", "cpu_shares", "mem_swappiness", "oom_score_adj", "pids_limit", "init")
    numbers: dict[str, Json] = {
        **{name: getattr(each, name) for name in names},
        "attach": None if each.attach else False,
        "cpu_quota": each.cpu_quota_us,
        "cpu_period": each.cpu_period_us,
        "mem_limit": _bytes(each.mem_limit_bytes),
        "mem_reservation": _bytes(each.mem_reservation_bytes),
        "memswap_limit": _bytes(each.memswap_limit_bytes),
        "shm_size": _bytes(each.shm_bytes),
        "stop_grace_period": _duration(each.stop_grace_period_ns),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _words_of(each: Service) -> dict[str, Json]:
    """Return command and entrypoint, where an empty list is something else than nothing."""
    words = {"command": each.command, "entrypoint": each.entrypoint}
    return {name: list(value) for name, value in words.items() if value is not None}


def _port(port: Port) -> Json:
    first, last = port.published_first, port.published_last
    published = "" if not first else str(first) if first == last else f"{first}-{last}"
    return _said(
        {
            "name": port.name,
            "mode": port.mode,
            "host_ip": port.host_ip,
            "target": port.target,
            "published": published,
            "protocol": port.protocol,
            "app_protocol": port.app_protocol,
        }
    )


def _mount(mount: ServiceVolume) -> Json:
    own: dict[str, Json] = {
        MountType.BIND: {
            **_said({"propagation": mount.propagation, "recursive": mount.recursive, "selinux": mount.selinux}),
            "create_host_path": mount.create_host_path,
        },
        MountType.VOLUME: _said({"nocopy": mount.nocopy, "subpath": mount.subpath, "labels": dict(mount.labels)}),
        MountType.TMPFS: _said({"size": _bytes(mount.tmpfs_size_bytes), "mode": mount.tmpfs_mode}),
        MountType.IMAGE: _said({"subpath": mount.subpath}),
    }
    whole: dict[str, Json] = {
        "type": str(mount.type),
        "source": mount.source,
        "target": mount.target,
        "read_only": mount.read_only,
        "consistency": mount.consistency,
        str(mount.type): own[mount.type],
    }
    return _said(whole)


def _reference(reference: FileReference) -> Json:
    fields = {"source": reference.source, "target": reference.target, "uid": reference.uid, "gid": reference.gid}
    return {**_said(dict(fields)), **({} if reference.mode is None else {"mode": f"0{reference.mode:o}"})}


def _device(text: str) -> Json:
    source, target, permissions = text.split(":")
    return {"source": source, "target": target, "permissions": permissions}


def _hook(hook: Hook) -> Json:
    return _said(
        {
            "command": list(hook.command),
            "user": hook.user,
            "privileged": hook.privileged,
            "working_dir": hook.working_dir,
            "environment": dict(hook.environment),
        }
    )


def _hosts(texts: Iterable[str]) -> list[Json]:
    return ["=".join(text.split(":", 1)) for text in texts]


def _place(place: ServiceNetwork) -> Json:
    return (
        _said(
            {
                "aliases": list(place.aliases),
                "ipv4_address": place.ipv4_address,
                "ipv6_address": place.ipv6_address,
                "link_local_ips": list(place.link_local_ips),
                "mac_address": place.mac_address,
                "interface_name": place.interface_name,
                "driver_opts": dict(place.driver_opts),
                "priority": place.priority or None,
                "gw_priority": place.gw_priority or None,
            }
        )
        or None
    )


def _ulimits(ulimits: Mapping[str, Ulimit]) -> Json:
    return {name: {"soft": each.soft, "hard": each.hard} for name, each in sorted(ulimits.items())}


def _build(build: Build) -> Json:
    return _said(
        {
            "context": build.context,
            "dockerfile": "" if build.dockerfile_inline else build.dockerfile,
            "dockerfile_inline": build.dockerfile_inline,
            "args": dict(sorted(build.args.items())),
            "target": build.target,
            "labels": dict(sorted(build.labels.items())),
            "cache_from": list(build.cache_from),
            "cache_to": list(build.cache_to),
            "network": build.network,
            "no_cache": build.no_cache,
            "pull": build.pull,
            "shm_size": _bytes(build.shm_bytes),
            "extra_hosts": _hosts(build.extra_hosts),
            "secrets": [_reference(secret) for secret in build.secrets],
            "additional_contexts": dict(build.additional_contexts),
            "tags": list(build.tags),
            "platforms": list(build.platforms),
            "ulimits": _ulimits(build.ulimits),
            "privileged": build.privileged,
        }
    )


def _deploy(deploy: Deploy) -> Json:
    replicas: dict[str, Json] = {} if deploy.replicas is None else {"replicas": deploy.replicas}
    resources = _said({"limits": _limits(deploy.limits), "reservations": _limits(deploy.reservations)})
    policy = _restart_policy(deploy.restart_policy) if deploy.restart_policy is not None else None
    rest = {"mode": deploy.mode, "labels": dict(deploy.labels), "resources": resources, "restart_policy": policy}
    return {**replicas, **_said(rest)}


def _limits(limits: ResourceLimits) -> Json:
    return _said({"cpus": limits.cpus, "memory": _bytes(limits.memory_bytes), "pids": limits.pids})


def _restart_policy(policy: RestartPolicy) -> Json:
    return _said(
        {
            "condition": policy.condition,
            "delay": _duration(policy.delay_ns),
            "max_attempts": policy.max_attempts,
            "window": _duration(policy.window_ns),
        }
    )


def _healthcheck(check: Healthcheck) -> Json:
    return _said(
        {
            "test": list(check.test),
            "interval": _duration(check.interval_ns),
            "timeout": _duration(check.timeout_ns),
            "retries": check.retries,
            "start_period": _duration(check.start_period_ns),
            "start_interval": _duration(check.start_interval_ns),
            "disable": check.disable,
        }
    )


def _watch_rule(rule: WatchRule) -> Json:
    return _said(
        {
            "action": str(rule.action),
            "path": rule.path,
            "target": rule.target,
            "ignore": list(rule.ignore),
            "include": list(rule.include),
            "initial_sync": rule.initial_sync,
            "exec": _said({"command": list(rule.command)}),
        }
    )


def _blkio(flags: Iterable[str]) -> Json:
    """Return the flags for block devices by the keys of a compose file: "device-read-bps=/dev/sda:1" and its like."""
    found: dict[str, Json] = {}
    lists: dict[str, list[Json]] = {}
    for name, _, value in (flag.partition("=") for flag in flags):
        path, _, rate = value.rpartition(":")
        if name == "blkio-weight":
            found["weight"] = int(value)
        elif name == "blkio-weight-device":
            lists.setdefault("weight_device", []).append({"path": path, "weight": int(rate)})
        else:
            lists.setdefault(name.replace("-", "_"), []).append({"path": path, "rate": rate})
    return {**found, **lists}


def _network(network: Network) -> Json:
    if network.external:
        return {"name": network.name, "external": True}
    ipam: dict[str, Json] = {
        "driver": network.ipam_driver,
        "config": [_pool(pool) for pool in network.ipam_pools],
        "options": dict(network.ipam_options),
    }
    families = {"enable_ipv4": network.enable_ipv4, "enable_ipv6": network.enable_ipv6}
    return {
        **_said(
            {
                "name": network.name,
                "driver": network.driver,
                "driver_opts": dict(network.driver_opts),
                "ipam": _said(ipam),
                "internal": network.internal,
                "attachable": network.attachable,
                "labels": dict(sorted(network.labels.items())),
            }
        ),
        **{name: value for name, value in families.items() if value is not None},
    }


def _pool(pool: AddressPool) -> Json:
    return _said(
        {
            "subnet": pool.subnet,
            "ip_range": pool.ip_range,
            "gateway": pool.gateway,
            "aux_addresses": dict(pool.aux_addresses),
        }
    )


def _volume(volume: Volume) -> Json:
    if volume.external:
        return {"name": volume.name, "external": True}
    return _said(
        {
            "name": volume.name,
            "driver": volume.driver,
            "driver_opts": dict(volume.driver_opts),
            "labels": dict(sorted(volume.labels.items())),
        }
    )


def _file_object(each: FileObject) -> Json:
    return {
        **_said({"name": each.name, "file": each.file, "environment": each.environment, "external": each.external}),
        **({} if each.content is None else {"content": each.content}),
        **_said({"labels": dict(sorted(each.labels.items()))}),
    }


def _bytes(size_bytes: int | None) -> str | None:
    return None if size_bytes is None else str(size_bytes)


_DURATION_UNITS = (("h", 3600 * NS_PER_S), ("m", 60 * NS_PER_S), ("s", NS_PER_S), ("ms", NS_PER_MS), ("us", NS_PER_US))


def _duration(duration_ns: int | None) -> str | None:
    """Return a duration as docker writes one, exactly: "1m30s"."""
    if duration_ns is None:
        return None
    parts: list[str] = []
    rest = duration_ns
    for unit, size_ns in (*_DURATION_UNITS, ("ns", 1)):
        count, rest = divmod(rest, size_ns)
        parts += [f"{count}{unit}"] if count else []
    return "".join(parts) or "0s"


def _said(fields: Mapping[str, Json]) -> dict[str, Json]:
    """Return what has a value; what is false, empty or nothing has none, but 0 and "0s" do."""
    return {name: value for name, value in fields.items() if value or (value == 0 and value is not False)}


def _escaped(value: Json) -> Json:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {key: _escaped(each) for key, each in value.items()}
    if isinstance(value, Sequence):
        return [_escaped(each) for each in value]
    return value
