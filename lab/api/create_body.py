"""The document of a container's creation -> the options that `lab create` makes of its flags; pure.

Source: docs.docker.com/reference/api/engine, "Create a container"; github.com/moby/moby, runconfig and daemon/create.go
for what empty fields mean. Fields that are not known here are ignored, as docker's server ignores them.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import replace

from lab.api import fields
from lab.api.fields import Document
from lab.container.network.model import Endpoint
from lab.container.options.endpoints import hardware_address, ip
from lab.container.options.run import RESTART_NEVER, RunOptions
from lab.container.spec.image import Healthcheck
from lab.container.supervision import POLICIES
from lab.errors import SpecError

_NANO_CPUS = 1_000_000_000
_BLOCK_IO = {
    "BlkioDeviceReadBps": "device-read-bps",
    "BlkioDeviceWriteBps": "device-write-bps",
    "BlkioDeviceReadIOps": "device-read-iops",
    "BlkioDeviceWriteIOps": "device-write-iops",
}
_PREDEFINED_MODES = ("", "default", "bridge")


def options_of(body: Document) -> RunOptions:
    """Return what a document asks for.

    Raises:
        SpecError: it has no image, or a field that cannot be.
    """
    host = fields.object_of(body, "HostConfig")
    image = fields.text(body, "Image")
    if not image:
        raise SpecError("config cannot be empty in order to create a container")
    options = RunOptions(image=image, command=fields.texts(body, "Cmd"))
    options = _with_program(options, body, host)
    options = _with_life(options, body, host)
    options = _with_limits(options, host)
    options = _with_rights(options, host)
    return _with_surroundings(options, body, host)


def _with_program(options: RunOptions, body: Document, host: Document) -> RunOptions:
    entrypoint = None if body.get("Entrypoint") is None else fields.texts(body, "Entrypoint")
    return replace(
        options,
        entrypoint=() if entrypoint == ("",) else entrypoint,
        env=fields.texts(body, "Env"),
        labels=fields.text_map(body, "Labels"),
        annotations=fields.text_map(host, "Annotations"),
        hostname=fields.text(body, "Hostname"),
        domainname=fields.text(body, "Domainname"),
        workdir=fields.text(body, "WorkingDir"),
        user=fields.text(body, "User"),
        groups=fields.texts(host, "GroupAdd"),
        terminal=fields.truth(body, "Tty"),
        open_stdin=fields.truth(body, "OpenStdin"),
    )


def _with_life(options: RunOptions, body: Document, host: Document) -> RunOptions:
    policy, most = restart_policy(fields.object_of(host, "RestartPolicy"))
    removes = fields.truth(host, "AutoRemove")
    if removes and policy != RESTART_NEVER:
        raise SpecError("can't create 'AutoRemove' container with restart policy")
    log = fields.object_of(host, "LogConfig")
    return replace(
        options,
        removes=removes,
        restart=policy,
        restarts_most=most,
        stop_signal=fields.text(body, "StopSignal"),
        stop_timeout_s=None if body.get("StopTimeout") is None else fields.number(body, "StopTimeout"),
        init=fields.truth(host, "Init"),
        healthcheck=_healthcheck(body),
        log_driver=fields.text(log, "Type") or options.log_driver,
        log_options=fields.text_map(log, "Config"),
    )


def _healthcheck(body: Document) -> Healthcheck | None:
    try:
        found = Healthcheck.from_document(body.get("Healthcheck"))
    except (TypeError, ValueError) as error:
        raise SpecError(f"invalid JSON: Healthcheck: {error}") from error
    return found if found is not None and found != Healthcheck() else None


def restart_policy(document: Document) -> tuple[str, int]:
    """Return a policy's name and the most restarts, 0 for any number.

    Raises:
        SpecError: there is no such policy, or it does not count.
    """
    name, most = fields.text(document, "Name") or RESTART_NEVER, fields.number(document, "MaximumRetryCount")
    if name not in POLICIES:
        raise SpecError(f"invalid restart policy '{name}'")
    if most and name != "on-failure":
        raise SpecError(f"maximum retry count cannot be used with restart policy '{name}'")
    if most < 0:
        raise SpecError("maximum retry count cannot be negative")
    return name, most


def _with_limits(options: RunOptions, host: Document) -> RunOptions:
    swappiness = fields.number(host, "MemorySwappiness") if host.get("MemorySwappiness") is not None else -1
    return replace(
        options,
        **limits(host),  # type: ignore[arg-type] # each has the type of its field
        memory_swappiness=None if swappiness == -1 else swappiness,
        block_io=tuple(_block_io(host)),
        oom_score_adj=fields.number(host, "OomScoreAdj") or None,
        oom_kill_disable=fields.truth(host, "OomKillDisable"),
        ulimits=tuple(
            f"{fields.text(each, 'Name')}={fields.number(each, 'Soft')}:{fields.number(each, 'Hard')}"
            for each in fields.objects(host, "Ulimits")
        ),
        shm_bytes=fields.number(host, "ShmSize") or None,
    )


def limits(host: Document) -> dict[str, object]:  # values of several types, for dataclasses.replace
    """Return the limits that can be changed later as well: fields of ``RunOptions``, None or "" where not given.

    Raises:
        SpecError: one of them has not the right type.
    """
    nano_cpus = fields.number(host, "NanoCpus")
    return {
        "memory_bytes": fields.number(host, "Memory") or None,
        "memory_swap_bytes": fields.number(host, "MemorySwap") or None,
        "memory_reservation_bytes": fields.number(host, "MemoryReservation") or None,
        "cpus": nano_cpus / _NANO_CPUS if nano_cpus else None,
        "cpu_shares": fields.number(host, "CpuShares") or None,
        "cpu_period_us": fields.number(host, "CpuPeriod") or None,
        "cpu_quota_us": fields.number(host, "CpuQuota") or None,
        "cpuset_cpus": fields.text(host, "CpusetCpus"),
        "cpuset_mems": fields.text(host, "CpusetMems"),
        "pids_limit": fields.number(host, "PidsLimit") or None,
    }


def _block_io(host: Document) -> Iterator[str]:
    weight = fields.number(host, "BlkioWeight")
    if weight:
        yield f"blkio-weight={weight}"
    for each in fields.objects(host, "BlkioWeightDevice"):
        yield f"blkio-weight-device={fields.text(each, 'Path')}:{fields.number(each, 'Weight')}"
    for name, flag in _BLOCK_IO.items():
        for each in fields.objects(host, name):
            yield f"{flag}={fields.text(each, 'Path')}:{fields.number(each, 'Rate')}"


def _with_rights(options: RunOptions, host: Document) -> RunOptions:
    return replace(
        options,
        cap_add=fields.texts(host, "CapAdd"),
        cap_drop=fields.texts(host, "CapDrop"),
        privileged=fields.truth(host, "Privileged"),
        security_options=fields.texts(host, "SecurityOpt"),
        read_only=fields.truth(host, "ReadonlyRootfs"),
        sysctls=tuple(f"{name}={value}" for name, value in fields.text_map(host, "Sysctls").items()),
        devices=tuple(_device(each) for each in fields.objects(host, "Devices")),
        device_rules=fields.texts(host, "DeviceCgroupRules"),
    )


def _device(document: Document) -> str:
    outside = fields.text(document, "PathOnHost")
    inside = fields.text(document, "PathInContainer") or outside
    return f"{outside}:{inside}:{fields.text(document, 'CgroupPermissions') or 'rwm'}"


def _with_surroundings(options: RunOptions, body: Document, host: Document) -> RunOptions:
    given = _endpoints(body, host)
    return replace(
        options,
        tmpfs=tuple(f"{path}:{rest}" if rest else path for path, rest in fields.text_map(host, "Tmpfs").items()),
        volumes=(*fields.texts(host, "Binds"), *fields.object_of(body, "Volumes")),
        mounts=tuple(mount_text(each) for each in fields.objects(host, "Mounts")),
        volumes_from=fields.texts(host, "VolumesFrom"),
        network=given[0].network if given else _mode(host),
        endpoints=given,
        publish=tuple(_published(fields.object_of(host, "PortBindings"))),
        publish_all=fields.truth(host, "PublishAllPorts"),
        expose=tuple(fields.object_of(body, "ExposedPorts")),
        add_hosts=fields.texts(host, "ExtraHosts"),
        dns=fields.texts(host, "Dns"),
        dns_search=fields.texts(host, "DnsSearch"),
        dns_options=fields.texts(host, "DnsOptions"),
        pid=fields.text(host, "PidMode"),
        ipc=fields.text(host, "IpcMode"),
        uts=fields.text(host, "UTSMode"),
        userns=fields.text(host, "UsernsMode"),
        cgroupns=fields.text(host, "CgroupnsMode"),
        cgroup_parent=fields.text(host, "CgroupParent"),
    )


def _mode(host: Document) -> str:
    mode = fields.text(host, "NetworkMode")
    return "bridge" if mode in _PREDEFINED_MODES else mode


def _endpoints(body: Document, host: Document) -> tuple[Endpoint, ...]:
    """Return the networks, that of the mode first; none where the mode alone says all."""
    mode = _mode(host)
    configured = fields.object_of(fields.object_of(body, "NetworkingConfig"), "EndpointsConfig")
    mac, links = fields.text(body, "MacAddress"), fields.texts(host, "Links")
    names = {"bridge" if name == "default" else name: value or {} for name, value in configured.items()}
    if not (mac or links) and all(not value for value in names.values()) and not set(names) - {mode}:
        return ()
    ordered = dict.fromkeys((mode, *names))
    found = [endpoint(name, fields.object_of(names, name)) for name in ordered]
    every = tuple(dict.fromkeys((*found[0].links, *links)))
    return (replace(found[0], mac=hardware_address(mac) or found[0].mac, links=every), *found[1:])


def endpoint(network: str, document: Document) -> Endpoint:
    """Return what a container is to be on a network.

    Raises:
        SpecError: an address is none.
    """
    asked = fields.object_of(document, "IPAMConfig")
    return Endpoint(
        network=network,
        aliases=fields.texts(document, "Aliases"),
        links=fields.texts(document, "Links"),
        address=ip(fields.text(asked, "IPv4Address"), 4),
        address6=ip(fields.text(asked, "IPv6Address"), 6),
        mac=hardware_address(fields.text(document, "MacAddress")),
    )


def _published(bindings: Mapping[str, object]) -> Iterator[str]:
    """Give port bindings as --publish has them."""
    for inner in bindings:
        for each in fields.objects(bindings, inner):
            address, outer = fields.text(each, "HostIp"), fields.text(each, "HostPort")
            shown = f"[{address}]" if ":" in address else address
            yield f"{shown}:{outer}:{inner}" if shown else f"{outer}:{inner}" if outer else inner


def mount_text(document: Document) -> str:
    """Return a mount as --mount has it.

    Raises:
        SpecError: a field has not the right type.
    """
    bind, volume, memory = (fields.object_of(document, f"{kind}Options") for kind in ("Bind", "Volume", "Tmpfs"))
    driver = fields.object_of(volume, "DriverConfig")
    given: list[tuple[str, object]] = [
        ("type", fields.text(document, "Type") or "volume"),
        ("source", fields.text(document, "Source")),
        ("target", fields.text(document, "Target")),
        ("readonly", "true" if fields.truth(document, "ReadOnly") else ""),
        ("bind-propagation", fields.text(bind, "Propagation")),
        ("bind-recursive", "disabled" if fields.truth(bind, "NonRecursive") else ""),
        ("volume-nocopy", "true" if fields.truth(volume, "NoCopy") else ""),
        ("volume-subpath", fields.text(volume, "Subpath")),
        ("volume-driver", fields.text(driver, "Name")),
        *(("volume-label", f"{name}={value}") for name, value in fields.text_map(volume, "Labels").items()),
        *(("volume-opt", f"{name}={value}") for name, value in fields.text_map(driver, "Options").items()),
        ("tmpfs-size", fields.number(memory, "SizeBytes") or ""),
        ("tmpfs-mode", f"{fields.number(memory, 'Mode'):o}" if fields.number(memory, "Mode") else ""),
    ]
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(f"{name}={value}" for name, value in given if value != "")
    return line.getvalue()
