"""A container as docker's ``container inspect`` tells it, and in the words of its lists.

Source: docs.docker.com/reference/api/engine, "Inspect a container", and the answers of a daemon.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from lab.container import health, linking, log_file, port_bindings, ports
from lab.container.containers import Container
from lab.container.image.description import config_document
from lab.container.network import publish
from lab.container.network.description import endpoint_id
from lab.container.network.model import Endpoint
from lab.container.network.request import PREDEFINED
from lab.container.options import mounts
from lab.container.options.run import RunOptions
from lab.container.spec.runtime import JOINS, Spec
from lab.container.volumes import points
from lab.container.volumes.model import DRIVER, MountPoint, MountType
from lab.units import NS_PER_S, format_age_ns

_NEVER = "0001-01-01T00:00:00Z"  # how Go writes a time that is not known
_NANO_CPUS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is not in the container's own files: whether it ran out of memory, and the sizes that were asked for."""

    oom_killed: bool = False
    layer_bytes: int | None = None
    root_bytes: int | None = None


def status_text(container: Container, now_ns: int) -> str:
    """Return docker's column STATUS: "Up 5 minutes (healthy)", "Exited (0) 3 minutes ago"; by the time of day."""
    ended = container.ended
    if container.status == "created":
        return "Created"
    if container.is_running:
        up = f"Up {format_age_ns(now_ns - container.started_ns)}"
        return f"{up} ({_condition(container)})" if _condition(container) else up
    if ended is None:
        return f"Exited ({container.exit_code})"
    word = "Restarting" if container.status == "restarting" else "Exited"
    return f"{word} ({container.exit_code}) {format_age_ns(now_ns - ended.ended_ns)} ago"


def _condition(container: Container) -> str:
    if container.is_paused:
        return "Paused"
    found = health_status(container)
    return "health: starting" if found == health.STARTING else found


def health_status(container: Container) -> str:
    """Return docker's word for a container's health: starting, healthy, unhealthy; "" without a check."""
    known = health.read(container.state.bundle)
    return "" if known is None else known.status


def labels(container: Container) -> dict[str, str]:
    """Return a container's labels: its image's, and its own, which replace them; sorted."""
    return dict(sorted({**container.record.image.labels, **container.record.options.labels}.items()))


def exposed_ports(container: Container) -> tuple[port_bindings.ContainerPort, ...]:
    """Return the ports that a container says that it listens on, published ones included; sorted."""
    return ports.exposed(container.record)


def listening_ports(container: Container) -> tuple[port_bindings.ContainerPort, ...]:
    """Return the exposed ports of a container that others can reach now: it runs and has a network of ours."""
    reachable = container.is_running and container.record.options.network not in ("none", "host")
    return exposed_ports(container) if reachable else ()


def bindings(container: Container) -> port_bindings.Bindings:
    """Return which ports of the host lead to a container now: none while it does not run."""
    return publish.grouped(publish.recorded(container.state.bundle)) if container.is_running else {}


def document(container: Container, spec: Spec, facts: Facts) -> dict[str, object]:
    """Return docker's JSON object for a container, its fields in docker's order."""
    bundle, record = container.state.bundle, container.record
    sizes = {"SizeRw": facts.layer_bytes, "SizeRootFs": facts.root_bytes}
    return {
        "Id": container.id,
        "Created": log_file.timestamp(record.created_ns),
        "Path": record.args[0],
        "Args": list(record.args[1:]),
        "State": _state(container, facts),
        "Image": record.image_id,
        "ResolvConfPath": os.path.join(bundle, "resolv.conf"),
        "HostnamePath": os.path.join(bundle, "hostname"),
        "HostsPath": os.path.join(bundle, "hosts"),
        "LogPath": "" if record.options.log_driver == "none" else os.path.join(bundle, log_file.LOG_FILE),
        "Name": f"/{container.name}",
        "RestartCount": record.restarts,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": {**host_config(record.options, spec), "Links": _links(container)},
        "GraphDriver": {"Data": _graph_data(container), "Name": "overlay2"},
        **{name: size for name, size in sizes.items() if size is not None},
        "Mounts": _mounts(container),
        "Config": _config(container, spec),
        "NetworkSettings": _network_settings(container),
    }


def _state(container: Container, facts: Facts) -> dict[str, object]:
    ended = container.ended
    return {
        "Status": container.status,
        "Running": container.is_running or container.status == "restarting",
        "Paused": container.is_paused,
        "Restarting": container.status == "restarting",
        "OOMKilled": facts.oom_killed,
        "Dead": False,
        "Pid": container.state.pid,
        "ExitCode": container.exit_code,
        "Error": "",
        "StartedAt": log_file.timestamp(container.started_ns) if container.started_ns else _NEVER,
        "FinishedAt": log_file.timestamp(ended.ended_ns) if ended is not None else _NEVER,
        **_health(container),
    }


def _health(container: Container) -> dict[str, object]:
    known = health.read(container.state.bundle)
    if known is None:
        return {}
    results = [
        {
            "Start": log_file.timestamp(began_ns),
            "End": log_file.timestamp(ended_ns),
            "ExitCode": code,
            "Output": text.decode(errors="replace"),
        }
        for began_ns, ended_ns, code, text in known.results
    ]
    return {"Health": {"Status": known.status, "FailingStreak": known.failing_streak, "Log": results}}


def _graph_data(container: Container) -> dict[str, str]:
    state = container.state
    return {
        "LowerDir": ":".join(state.layers),
        "MergedDir": state.rootfs,
        "UpperDir": state.upper,
        "WorkDir": state.work,
    }


def _mounts(container: Container) -> list[dict[str, object]]:
    """Return binds and volumes, then what --mount has in memory, which docker tells here and --tmpfs does not."""
    memory = mounts.tmpfs_of_mounts(container.record.options.mounts)
    in_memory = (MountPoint(type=MountType.TMPFS, source="", destination=each.destination) for each in memory)
    return [_mount(point) for point in (*points.read(container.state.bundle), *in_memory)]


def _mount(point: MountPoint) -> dict[str, object]:
    is_volume = point.type == MountType.VOLUME
    return {
        "Type": point.type,
        **({"Name": point.name} if is_volume else {}),
        "Source": point.source,
        "Destination": point.destination,
        **({"Driver": DRIVER} if is_volume else {}),
        "Mode": point.mode,
        "RW": point.writable,
        "Propagation": point.propagation,
    }


def _config(container: Container, spec: Spec) -> dict[str, object]:
    """Return docker's Config: what the image says, replaced by what the user said."""
    options, image = container.record.options, container.record.image
    attached = not options.open_stdin and not options.terminal
    volumes = (*image.volumes, *(text for text in options.volumes if ":" not in text))
    given = {
        "Hostname": options.hostname or container.id[:12],
        "Domainname": options.domainname,
        "User": options.user or image.user,
        "Tty": options.terminal,
        "OpenStdin": options.open_stdin,
        "StdinOnce": options.open_stdin and attached,
        "ExposedPorts": {str(port): {} for port in exposed_ports(container)},
        "Env": _environment(spec, container),
        "Cmd": list(options.command or (() if options.entrypoint is not None else image.cmd)) or None,
        "Image": options.image,
        "Volumes": {path: {} for path in volumes} or None,
        "WorkingDir": options.workdir or image.working_dir,
        "Entrypoint": list(image.entrypoint if options.entrypoint is None else options.entrypoint) or None,
        "Labels": labels(container),
        "StopSignal": options.stop_signal or image.stop_signal,
        "StopTimeout": options.stop_timeout_s,
        "Healthcheck": None if options.healthcheck is None else options.healthcheck.to_document(),
    }
    optional = ("ExposedPorts", "StopSignal", "StopTimeout", "Healthcheck")
    basic = config_document(image)
    found = {**basic, **{name: value for name, value in given.items() if name not in optional or value}}
    order = (*_CONFIG_ORDER, *found)
    return {name: found[name] for name in dict.fromkeys(order) if name in found}


_CONFIG_ORDER = (
    "Hostname", "Domainname", "User", "AttachStdin", "AttachStdout", "AttachStderr", "ExposedPorts", "Tty", "OpenStdin",
    "StdinOnce", "Env", "Cmd", "Healthcheck", "Image", "Volumes", "WorkingDir", "Entrypoint", "OnBuild", "Labels",
    "StopSignal", "StopTimeout", "Shell",
)  # fmt: skip


def _environment(spec: Spec, container: Container) -> list[str]:
    """Return the variables as docker tells them: the user's first, none of those that every process gets beside."""
    image, options = container.record.image.env, container.record.options.env
    names = [line.partition("=")[0] for line in (*options, *image)]
    found = {line.partition("=")[0]: line for line in spec.process.env}
    implied = [name for name in found if name == "PATH" and name not in names]
    return [found[name] for name in dict.fromkeys((*names, *implied)) if name in found]


def host_config(options: RunOptions, spec: Spec) -> dict[str, object]:
    """Return docker's HostConfig."""
    return {
        "Binds": [text for text in options.volumes if ":" in text] or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": options.log_driver, "Config": dict(options.log_options)},
        "NetworkMode": options.network,
        "PortBindings": port_bindings.document(port_bindings.published(options.publish)),
        "RestartPolicy": {"Name": options.restart, "MaximumRetryCount": options.restarts_most},
        "AutoRemove": options.removes,
        "VolumeDriver": "",
        "VolumesFrom": list(options.volumes_from) or None,
        "CapAdd": [_capability(name) for name in options.cap_add] or None,
        "CapDrop": [_capability(name) for name in options.cap_drop] or None,
        "CgroupnsMode": options.cgroupns or "private",
        "Dns": list(options.dns),
        "DnsOptions": list(options.dns_options),
        "DnsSearch": list(options.dns_search),
        "ExtraHosts": list(options.add_hosts) or None,
        "GroupAdd": list(options.groups) or None,
        "IpcMode": options.ipc or "private",
        "Cgroup": "",
        "Links": None,  # which the container's name is part of
        "OomScoreAdj": options.oom_score_adj or 0,
        "PidMode": options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": list(options.security_options) or None,
        **({"Mounts": [mounts.document(text) for text in options.mounts]} if options.mounts else {}),
        **({"Tmpfs": _pairs(options.tmpfs)} if options.tmpfs else {}),
        "UTSMode": options.uts,
        "UsernsMode": options.userns,
        "ShmSize": options.shm_bytes if options.shm_bytes is not None else 64 << 20,
        **({"Sysctls": dict(text.split("=", 1) for text in options.sysctls)} if options.sysctls else {}),
        "Runtime": "lab",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        **_limits(options),
        "MaskedPaths": list(spec.linux.masked_paths) or None,
        "ReadonlyPaths": list(spec.linux.readonly_paths) or None,
        **({"Init": True} if options.init else {}),
    }


def _links(container: Container) -> list[str] | None:
    """Return the links on the default bridge as docker tells them."""
    links = (link for each in container.state.endpoints if each.network in PREDEFINED for link in each.links)
    found = (linking.parsed(link) for link in links)
    return [f"/{name}:/{container.name}/{alias}" for name, alias in found] or None


def _capability(name: str) -> str:
    plain = name.upper().removeprefix("CAP_")
    return plain if plain == "ALL" else f"CAP_{plain}"


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    return {path: rest for path, _, rest in (text.partition(":") for text in texts)}


def _limits(options: RunOptions) -> dict[str, object]:
    memory = options.memory_bytes or 0
    swap = options.memory_swap_bytes or 2 * memory
    return {
        "CpuShares": options.cpu_shares or 0,
        "Memory": memory,
        "NanoCpus": round((options.cpus or 0) * _NANO_CPUS),
        "CgroupParent": options.cgroup_parent,
        **_block_io(options.block_io),
        "CpuPeriod": options.cpu_period_us or 0,
        "CpuQuota": options.cpu_quota_us or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "Devices": [_device(text) for text in options.devices],
        "DeviceCgroupRules": list(options.device_rules) or None,
        "DeviceRequests": None,
        "MemoryReservation": options.memory_reservation_bytes or 0,
        "MemorySwap": swap,
        "MemorySwappiness": options.memory_swappiness,
        "OomKillDisable": options.oom_kill_disable,
        "PidsLimit": options.pids_limit,
        "Ulimits": [_ulimit(text) for text in options.ulimits],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    }


_BLOCK_IO = {
    "device-read-bps": "BlkioDeviceReadBps",
    "device-write-bps": "BlkioDeviceWriteBps",
    "device-read-iops": "BlkioDeviceReadIOps",
    "device-write-iops": "BlkioDeviceWriteIOps",
}


def _block_io(texts: tuple[str, ...]) -> dict[str, object]:
    pairs = [(flag, value) for flag, _, value in (text.partition("=") for text in texts)]
    weight = next((int(value) for flag, value in pairs if flag == "blkio-weight"), 0)
    limits = {name: [_rate(value) for given, value in pairs if given == flag] for flag, name in _BLOCK_IO.items()}
    return {"BlkioWeight": weight, "BlkioWeightDevice": [], **limits}


def _rate(text: str) -> dict[str, object]:
    from lab.units import parse_bytes

    path, _, rate = text.rpartition(":")
    return {"Path": path, "Rate": parse_bytes(rate)}


def _device(text: str) -> dict[str, str]:
    host, *rest = text.split(":")
    inside = next((part for part in rest if part.startswith("/")), host)
    access = next((part for part in rest if not part.startswith("/")), "rwm")
    return {"PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": access}


def _ulimit(text: str) -> dict[str, object]:
    name, _, limits = text.partition("=")
    soft, _, hard = limits.partition(":")
    return {"Name": name, "Hard": int(hard or soft), "Soft": int(soft)}


def _network_settings(container: Container) -> dict[str, object]:
    bound = port_bindings.document(bindings(container))
    open_ports: dict[str, object] = {str(port): None for port in listening_ports(container)}
    endpoints = {name: _endpoint(container, endpoint) for name, endpoint in _endpoints(container).items()}
    common = ("Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway")
    own = endpoints.get("bridge") or _endpoint(container, Endpoint(network="bridge"))
    pid = container.state.pid
    return {
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": {**open_ports, **bound},
        "SandboxKey": f"/proc/{pid}/ns/net" if pid else "",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": own["EndpointID"],
        **{name: own[name] for name in common},
        "MacAddress": own["MacAddress"],
        "Networks": endpoints,
    }


def network_names(container: Container) -> tuple[str, ...]:
    """Return the names of the networks that a container is connected with, or whose it shares."""
    return tuple(_endpoints(container))


def _endpoints(container: Container) -> Mapping[str, Endpoint]:
    mode = container.record.options.network
    if mode.startswith(JOINS):
        return {}
    if mode in ("none", "host"):
        return {mode: Endpoint(network=mode)}
    return {each.network: each for each in container.state.known_endpoints}


def _endpoint(container: Container, endpoint: Endpoint) -> Mapping[str, object]:
    attachment = endpoint.attachment if container.is_running else None
    asked = {"IPv4Address": endpoint.address, "IPv6Address": endpoint.address6}
    named = endpoint.network not in PREDEFINED
    return {
        "IPAMConfig": {name: address for name, address in asked.items() if address} or None,
        "Links": list(endpoint.links) if named and endpoint.links else None,
        "Aliases": [*endpoint.aliases, container.id[:12]] if named else None,
        "NetworkID": endpoint.network_id if container.is_running else "",
        "EndpointID": endpoint_id(endpoint.network_id, attachment) if attachment else "",
        "Gateway": attachment.host_address if attachment else "",
        "IPAddress": attachment.address if attachment else "",
        "IPPrefixLen": attachment.prefix_length if attachment else 0,
        "IPv6Gateway": attachment.gateway6 if attachment else "",
        "GlobalIPv6Address": attachment.address6 if attachment else "",
        "GlobalIPv6PrefixLen": attachment.prefix6_length if attachment else 0,
        "MacAddress": attachment.mac if attachment else "",
        "DriverOpts": None,
    }


def local_time(instant_ns: int) -> str:
    """Return a time of day as docker's lists write it: "2026-11-24 08:01:46 +0000 UTC"."""
    import datetime

    return datetime.datetime.fromtimestamp(instant_ns // NS_PER_S).astimezone().strftime("%Y-%m-%d %H:%M:%S %z %Z")
