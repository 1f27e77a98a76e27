"""Whether the name servers run that running containers depend on, and bringing back those that do not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress

from lab.container import naming
from lab.container.containers import Container
from lab.container.network import dns
from lab.errors import NoSuchNetwork
from lab.paths import Paths


def unanswered(paths: Paths, known: Iterable[Container]) -> tuple[dns.Server, ...]:
    """Return the name servers that have to run for containers which do, and do not run themselves."""
    needed = {server.id: server for server in _needed(paths, known)}
    return tuple(server for server in needed.values() if not dns.is_running(paths, server.id))


def _needed(paths: Paths, known: Iterable[Container]) -> Iterator[dns.Server]:
    for container in known:
        if container.is_running and container.state.endpoints:
            with suppress(NoSuchNetwork):
                yield from naming.of(paths, container.state, container.name, container.record.options).servers


def answer(paths: Paths, known: Iterable[Container]) -> None:
    """Start those name servers again.

    Raises:
        UnavailableError: dnsmasq is not installed any more.
        KernelError: one does not start.
    """
    for server in unanswered(paths, known):
        dns.ensure(paths, server)
