"""Links: what a container alone calls others on a network that they share; docker's old way.

Such names are in the container's /etc/hosts, from its start on. Source: docs.docker.com/engine/network/links; of the
variables that docker sets beside them on its default bridge there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lab.container.engine import Engine
from lab.container.names import SHORT_DIGITS, Names
from lab.container.network.model import Endpoint
from lab.container.spec.runtime import Status
from lab.container.state import ContainerState
from lab.errors import NoSuchContainer, SpecError, StateConflict

_DEFAULT = "bridge"


def parsed(link: str) -> tuple[str, str]:
    """Return the container's name and what it is to be called, of "NAME[:ALIAS]".

    Raises:
        SpecError: it is none.
    """
    name, separator, alias = link.partition(":")
    if not name or (separator and not alias) or ":" in alias:
        raise SpecError(f"bad format for links: {link}")
    return name.removeprefix("/"), alias.rpartition("/")[2] or name.removeprefix("/")


def check(endpoints: tuple[Endpoint, ...], find: Callable[[str], str]) -> None:
    """See that links can be: those on the default bridge are of containers that are there.

    Raises:
        SpecError: one cannot.
    """
    for endpoint in endpoints:
        for name, _ in map(parsed, endpoint.links):
            try:
                if endpoint.network == _DEFAULT:
                    find(name)
            except NoSuchContainer as error:
                raise SpecError(f"could not get container for {name}: {error}") from None


def hosts(engine: Engine, state: ContainerState) -> tuple[tuple[str, str], ...]:
    """Return (names, address) of each container that one is linked with, as lines of /etc/hosts have them.

    Raises:
        StateConflict: one on the default bridge does not run.
    """
    return tuple(_hosts(engine, state)) if any(each.links for each in state.endpoints) else ()


def _hosts(engine: Engine, state: ContainerState) -> Iterator[tuple[str, str]]:
    names = Names(engine.paths.containers)
    for endpoint in state.endpoints:
        for name, alias in map(parsed, endpoint.links):
            try:
                other = engine.state(names.resolve(name, engine.directory.ids()))
            except NoSuchContainer:
                continue  # it has been removed: its link goes with it
            if endpoint.network == _DEFAULT and other.status != Status.RUNNING:
                own = names.of(state.id)
                raise StateConflict(f"Cannot link to a non running container: /{name} AS /{own}/{alias}")
            called = " ".join(dict.fromkeys((alias, other.id[:SHORT_DIGITS], names.of(other.id))))
            yield from ((called, address) for address in _addresses(other, endpoint))


def _addresses(other: ContainerState, endpoint: Endpoint) -> Iterator[str]:
    for each in other.known_endpoints:
        if each.attachment is not None and endpoint.network in (each.network, each.network_id):
            yield from each.attachment.addresses
