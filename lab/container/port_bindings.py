"""The ports of a container: which it says that it listens on, which of the host's lead there; pure.

Source: docs.docker.com/reference/cli/docker/container/run, "Publish or expose port", and what `docker ps` shows.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from lab.errors import SpecError

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")
_PROTOCOLS = ("tcp", "udp", "sctp")
_MOST = 65535
ANY = "0.0.0.0"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class ContainerPort:
    """One port of a container: its number and protocol."""

    number: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        """Return docker's spelling: "80/tcp"."""
        return f"{self.number}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """Where a port is published on the host: number 0 is one that is chosen at the start, "" every address.

    With a ``last`` it is the first free one from ``number`` to that.
    """

    address: str
    number: int
    last: int = 0

    def __str__(self) -> str:
        """Return docker's spelling of the number: "", "80", "8000-8010"."""
        if self.last:
            return f"{self.number}-{self.last}"
        return str(self.number) if self.number else ""


Bindings = Mapping[ContainerPort, tuple[HostPort, ...]]


def ports(text: str) -> tuple[ContainerPort, ...]:
    """Return the ports in "80", "80/udp" or "8000-8010/tcp"; none if it is none of them."""
    match = _PORT.fullmatch(text)
    if match is None:
        return ()
    first, last = int(match[1]), int(match[2] or match[1])
    return tuple(ContainerPort(number=number, protocol=match[3] or "tcp") for number in range(first, last + 1))


def published(texts: Iterable[str]) -> dict[ContainerPort, tuple[HostPort, ...]]:
    """Return what --publish asks for: "[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]", ranges of one length on both sides.

    A range of the host for one port of the container is where a free one is chosen.

    Raises:
        SpecError: it is none, in docker's words.
    """
    found: dict[ContainerPort, tuple[HostPort, ...]] = {}
    for text in texts:
        for port, host in _published(text):
            found[port] = (*found.get(port, ()), host)
    return found


def _published(text: str) -> Iterator[tuple[ContainerPort, HostPort]]:
    spec, _, protocol = text.partition("/")
    rest, _, inner = spec.rpartition(":")
    address, _, outer = rest.rpartition(":")
    if not inner:
        raise SpecError(f"no port specified: {text}<empty>")
    first, last = _span_of(inner, "containerPort")
    host_first, host_last = _span_of(outer, "hostPort") if outer else (0, 0)
    if (protocol.lower() or "tcp") not in _PROTOCOLS:
        raise SpecError(f"invalid proto: {protocol}")
    wide = host_last - host_first
    if outer and wide != last - first and last != first:
        raise SpecError(f"invalid ranges specified for container and host Ports: {inner} and {outer}")
    for index in range(last - first + 1):
        host = HostPort(
            address=_address(address),
            number=host_first + index if outer else 0,
            last=host_last if wide and first == last else 0,
        )
        yield ContainerPort(number=first + index, protocol=protocol.lower() or "tcp"), host


def _span_of(text: str, what: str) -> tuple[int, int]:
    low, separator, high = text.partition("-")
    numbers = (low, high) if separator else (low, low)
    if not all(number.isascii() and number.isdigit() and int(number) <= _MOST for number in numbers):
        raise SpecError(f"invalid {what}: {text}")
    if int(numbers[1]) < int(numbers[0]):
        raise SpecError(f"invalid {what}: {text}")
    return int(numbers[0]), int(numbers[1])


def _address(text: str) -> str:
    plain = text.removeprefix("[").removesuffix("]")
    if not plain:
        return ""
    try:
        return str(ipaddress.ip_address(plain))
    except ValueError:
        raise SpecError(f"invalid IP address: {text}") from None


def with_host(port: ContainerPort, host: HostPort) -> str:
    """Return a binding as --publish takes it."""
    return f"{_bracketed(host.address)}:{host}:{port}" if host.address else f"{host}:{port}"


def document(bindings: Bindings) -> dict[str, list[dict[str, str]]]:
    """Return HostConfig.PortBindings of docker's inspect document."""
    return {
        str(port): [{"HostIp": host.address, "HostPort": str(host)} for host in hosts]
        for port, hosts in sorted(bindings.items())
    }


def shown(exposed: Iterable[ContainerPort], bindings: Bindings) -> str:
    """Return the column PORTS of `docker ps`: consecutive ports of one kind as a range, published ones first shown."""
    open_only = [port for port in exposed if port not in bindings]
    pairs = [(port, host) for port, hosts in bindings.items() for host in hosts]
    by_address = sorted(pairs, key=lambda pair: (pair[1].address, pair[0].protocol, pair[0].number))
    texts = [*_ranges((port, None) for port in sorted(open_only, key=_kind)), *_ranges(iter(by_address))]
    return ", ".join(texts)


def _kind(port: ContainerPort) -> tuple[str, int]:
    return port.protocol, port.number


def _ranges(pairs: Iterator[tuple[ContainerPort, HostPort | None]]) -> Iterator[str]:
    def family(item: tuple[int, tuple[ContainerPort, HostPort | None]]) -> tuple[object, ...]:
        index, (port, host) = item
        outer = (host.address, host.number - index if host.number else -port.number) if host is not None else ()
        return port.protocol, port.number - index, outer

    for _, group in groupby(enumerate(pairs), key=family):
        members = [pair for _, pair in group]
        (first, host), last = members[0], members[-1]
        inner = _span(first.number, last[0].number)
        if host is None or not host.number:
            yield f"{inner}/{first.protocol}"
        else:
            outer = _span(host.number, host.number + len(members) - 1)
            yield f"{_bracketed(host.address or ANY)}:{outer}->{inner}/{first.protocol}"


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
