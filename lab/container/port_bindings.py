"""The ports of a container: which it says that it listens on, which of the host's lead there; pure.

Source: docs.docker.com/reference/cli/docker/container/run, "Publish or expose port", and what `docker ps` shows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

_PORT = re.compile(r"(\d+)(?:-(\d+))?(?:/(tcp|udp|sctp))?")
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
    """Where a port is published on the host; number 0 is one that is chosen at the start."""

    address: str
    number: int


Bindings = Mapping[ContainerPort, tuple[HostPort, ...]]


def ports(text: str) -> tuple[ContainerPort, ...]:
    """Return the ports in "80", "80/udp" or "8000-8010/tcp"; none if it is none of them."""
    match = _PORT.fullmatch(text)
    if match is None:
        return ()
    first, last = int(match[1]), int(match[2] or match[1])
    return tuple(ContainerPort(number=number, protocol=match[3] or "tcp") for number in range(first, last + 1))


def published(texts: Iterable[str]) -> dict[ContainerPort, tuple[HostPort, ...]]:
    """Return what --publish asks for: "[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]", ranges of one length on both sides."""
    found: dict[ContainerPort, tuple[HostPort, ...]] = {}
    for text in texts:
        rest, _, inner = text.rpartition(":")
        address, _, outer = rest.rpartition(":")
        for index, port in enumerate(ports(inner)):
            first = int(outer.partition("-")[0] or 0) if outer.replace("-", "").isdigit() else 0
            number = first + index if first else 0
            found[port] = (*found.get(port, ()), HostPort(address=address.strip("[]"), number=number))
    return found


def document(bindings: Bindings) -> dict[str, list[dict[str, str]]]:
    """Return HostConfig.PortBindings of docker's inspect document."""
    return {
        str(port): [{"HostIp": host.address, "HostPort": str(host.number) if host.number else ""} for host in hosts]
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
