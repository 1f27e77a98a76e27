"""The short forms of a compose file, and the long ones that they stand for; pure.

What is no such form raises ``ValueError`` with what is wrong.

Source: https://github.com/compose-spec/compose-spec/blob/main/05-services.md, each key's "Short syntax".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lab.compose.model import Condition, MountType
from lab.compose.tree import Node, Plain, planted
from lab.container.options.mounts import PROPAGATIONS
from lab.container.port_bindings import published
from lab.errors import SpecError

_CONSISTENCIES = ("cached", "delegated", "consistent")
_SELINUX = ("z", "Z")


def ports(text: str) -> Iterator[Mapping[str, Plain]]:
    """Give the ports of "[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]", where HOST and CONTAINER may be ranges."""
    try:
        found = published([text])
    except SpecError as error:
        raise ValueError(f"{error}: write [[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]") from None
    for port, hosts in found.items():
        for host in hosts:
            yield _said(target=port.number, published=str(host), host_ip=host.address, protocol=port.protocol)


def _said(**fields: str | int) -> Mapping[str, Plain]:
    return {key: value for key, value in fields.items() if value}


def volumes(text: str) -> Iterator[Mapping[str, Plain]]:
    """Give the mount of "[SOURCE:]TARGET[:OPTION,...]", where a SOURCE that begins with "/", "." or "~" is a path."""
    parts = text.split(":")
    if not all(parts) or len(parts) > 3:
        raise ValueError(f"{text!r} is no volume: write [SOURCE:]TARGET[:OPTIONS]")
    if len(parts) == 1:
        yield {"type": str(MountType.VOLUME), "target": text}
        return
    source, target, *options = parts
    kind = MountType.BIND if source[0] in "/.~" else MountType.VOLUME
    yield {"type": str(kind), "source": source, "target": target, **_mount_options(kind, "".join(options))}


def _mount_options(kind: MountType, text: str) -> Mapping[str, Plain]:
    found: dict[str, Plain] = {}
    of_kind: dict[str, Plain] = {}
    for option in filter(None, text.split(",")):
        if option in ("ro", "rw"):
            found["read_only"] = option == "ro"
        elif option in _CONSISTENCIES:
            found["consistency"] = option
        elif option in PROPAGATIONS and kind == MountType.BIND:
            of_kind["propagation"] = option
        elif option in _SELINUX:
            of_kind.update({"selinux": option} if kind == MountType.BIND else {})
        elif option == "nocopy" and kind == MountType.VOLUME:
            of_kind["nocopy"] = True
        else:
            raise ValueError(f"{option!r} is no option of a {kind} mount")
    return {**found, str(kind): of_kind} if of_kind else found


def file_references(text: str) -> Iterator[Mapping[str, Plain]]:
    """Give the config or secret whose key ``text`` is."""
    yield {"source": text}


def env_files(text: str) -> Iterator[Mapping[str, Plain]]:
    """Give the file of variables at a path."""
    yield {"path": text}


def devices(text: str) -> Iterator[Mapping[str, Plain]]:
    """Give the device of "HOST[:CONTAINER[:ACCESS]]"."""
    source, *rest = text.split(":")
    if not source or len(rest) > 2:
        raise ValueError(f"{text!r} is no device: write HOST[:CONTAINER[:ACCESS]]")
    yield {"source": source, **dict(zip(("target", "permissions"), rest, strict=False))}


def includes(text: str) -> Iterator[Mapping[str, Plain]]:
    """Give the compose file to include."""
    yield {"path": text}


def dependencies(node: Node) -> Mapping[str, Plain] | None:
    """Return a list of services as the mapping of what is waited for."""
    return _by_name(node, {"condition": str(Condition.STARTED)})


def networks(node: Node) -> Mapping[str, Plain] | None:
    """Return a list of networks as a mapping."""
    return _by_name(node, {})


def _by_name(node: Node, value: Mapping[str, str]) -> Mapping[str, Plain] | None:
    names = node.items()
    if not all(isinstance(name.value, str) for name in names) or isinstance(node.value, str):
        return None
    return {str(name.value): planted(value, name) for name in names}


def build(node: Node) -> Mapping[str, Plain] | None:
    """Return a context as a build."""
    return {"context": node.value} if isinstance(node.value, str) else None


def extends(node: Node) -> Mapping[str, Plain] | None:
    """Return the name of a service as what is extended."""
    return {"service": node.value} if isinstance(node.value, str) else None


def ulimit(node: Node) -> Mapping[str, Plain] | None:
    """Return one number as both limits."""
    is_number = isinstance(node.value, int | str) and not isinstance(node.value, bool)
    return {"soft": node, "hard": node} if is_number else None


def health_test(node: Node) -> Node:
    """Return a command for the shell as the list that says so."""
    return node.having([node.having("CMD-SHELL"), node]) if isinstance(node.value, str) else node


def hosts(text: str) -> tuple[str, str]:
    """Return "NAME:ADDRESS" or "NAME=ADDRESS" as name and address; the address of IPv6 may be in brackets."""
    name, separator, address = text.partition("=" if "=" in text else ":")
    if not (name and separator and address):
        raise ValueError(f"{text!r} is no host: write NAME:ADDRESS")
    return name.strip(), address.strip().removeprefix("[").removesuffix("]")
