"""--device, --device-cgroup-rule, and the devices of --privileged.

Source: docs.docker.com/reference/cli/docker/container/run, "--device", "--device-cgroup-rule".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lab.container.options.flags import argument
from lab.container.spec.runtime import Device, DeviceRule
from lab.errors import SpecError

_RULE = re.compile(r"([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})", re.ASCII)
_MODE = re.compile(r"[rwm]{1,3}")
_NOT_OURS = frozenset(("console", "fd", "mqueue", "pts", "shm", "ptmx", "core", "stdin", "stdout", "stderr"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequest:
    """What --device asks for: a device or a directory of them on the host, where it goes, and how it may be used."""

    host_path: str
    container_path: str
    access: str = "rwm"


def device(text: str) -> DeviceRequest:
    """Return "HOST[:CONTAINER[:ACCESS]]" or "HOST:ACCESS" as a request.

    Raises:
        SpecError: it is none.
    """
    host, *rest = text.split(":")
    if not host or len(rest) > 2:
        raise SpecError(f"invalid device specification: {text}")
    if len(rest) == 1 and _is_access(rest[0]):
        return DeviceRequest(host_path=host, container_path=host, access=rest[0])
    access = rest[1] if len(rest) == 2 else "rwm"
    if not _is_access(access):
        raise SpecError(f"bad mode specified: {access}", hint="a choice of r, w and m")
    return DeviceRequest(host_path=host, container_path=(rest[0] if rest else "") or host, access=access)


def _is_access(text: str) -> bool:
    return _MODE.fullmatch(text) is not None and len(set(text)) == len(text)


def device_rule(text: str) -> DeviceRule:
    """Return a --device-cgroup-rule as "c 42:* rwm" says it.

    Raises:
        SpecError: it is none.
    """
    match = _RULE.fullmatch(text)
    with argument("--device-cgroup-rule", text):
        if match is None:
            raise SpecError(f"invalid device cgroup format '{text}'")
    kind, major, minor, access = match.groups()
    return DeviceRule(allow=True, type=kind, major=_number(major), minor=_number(minor), access=access)


def _number(text: str) -> int | None:
    return None if text == "*" else int(text)


def find(request: DeviceRequest) -> tuple[tuple[Device, ...], tuple[DeviceRule, ...]]:
    """Return the nodes that a request stands for on this host, and the rules that let the container use them.

    Raises:
        SpecError: there is no such device.
    """
    try:
        nodes = tuple(_nodes(request.host_path, request.container_path))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise SpecError(
            f'error gathering device information while adding custom device "{request.host_path}": {reason}'
        ) from error
    if not nodes:
        raise SpecError(
            f'error gathering device information while adding custom device "{request.host_path}": not a device node'
        )
    rules = (DeviceRule(allow=True, type=node.type, major=node.major, minor=node.minor) for node in nodes)
    return nodes, tuple(replace(rule, access=request.access) for rule in rules)


def _nodes(host: str, container: str) -> Iterator[Device]:
    status = os.stat(host)  # of what a link leads to
    if stat.S_ISDIR(status.st_mode):
        for name in sorted(os.listdir(host)):
            yield from _nodes_if_there(os.path.join(host, name), os.path.join(container, name))
    elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
        yield _node(container, status)


def _nodes_if_there(host: str, container: str) -> Iterator[Device]:
    try:
        if not stat.S_ISLNK(os.lstat(host).st_mode):
            yield from _nodes(host, container)
    except FileNotFoundError:
        return  # it was unplugged meanwhile


def _node(path: str, status: os.stat_result) -> Device:
    return Device(
        path=path,
        type="b" if stat.S_ISBLK(status.st_mode) else "c",
        major=os.major(status.st_rdev),
        minor=os.minor(status.st_rdev),
        file_mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
    )


def all_of_host(directory: str = "/dev") -> tuple[Device, ...]:
    """Return every device node of the host, for --privileged; not what a container has of its own in /dev."""
    names = (name for name in sorted(os.listdir(directory)) if name not in _NOT_OURS and not name.startswith("."))
    paths = (os.path.join(directory, name) for name in names)
    return tuple(node for path in paths for node in _nodes_if_there(path, path))
