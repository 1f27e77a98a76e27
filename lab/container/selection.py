"""Which containers a list is about: docker's ``--filter`` for containers; pure.

Source: docs.docker.com/reference/cli/docker/container/ls, "Filtering", and the answers of a daemon.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from lab.container import labels, port_bindings
from lab.container.port_bindings import ContainerPort
from lab.errors import ContainerError

LISTED = (
    "ancestor", "before", "exited", "expose", "health", "id", "is-task", "isolation", "label", "name", "network",
    "publish", "since", "status", "volume",
)  # fmt: skip
STATUSES = ("created", "restarting", "running", "removing", "paused", "exited", "dead")
HEALTHS = ("starting", "healthy", "unhealthy", "none")
_TRUTHS = {"1": True, "true": True, "0": False, "false": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a filter can ask about a container; ``health`` is "none" without a check, ``created_ns`` the time of day.

    ``volumes`` are names and paths, on the host and inside, of what is mounted; ``networks`` are names and ids.
    """

    id: str
    name: str
    status: str
    created_ns: int
    exit_code: int = 0
    has_run: bool = False
    health: str = "none"
    labels: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    exposed: frozenset[ContainerPort] = frozenset()
    published: frozenset[ContainerPort] = frozenset()
    is_of: Callable[[str], bool] = lambda _: False
    """Whether its image is the one of this name, or was made of it."""


Condition = Callable[[Listed], bool]


def conditions(filters: Mapping[str, Sequence[str]], created_ns_of: Callable[[str], int]) -> tuple[Condition, ...]:
    """Return what has to hold, all of it; ``created_ns_of`` looks a container up that ``before`` or ``since`` names.

    Raises:
        ContainerError: a value is not one.
    """
    found: list[Condition] = [_label(value) for value in filters.get("label", ())]
    found += [_all(filters[name], make) for name, make in _MAKERS.items() if name in filters]
    for value in filters.get("is-task", ()):
        found.append(_task(value))
    for value in filters.get("before", ()):
        found.append(_created_before(created_ns_of(value)))
    for value in filters.get("since", ()):
        found.append(_created_since(created_ns_of(value)))
    return tuple(found)


def _all(values: Sequence[str], make: Callable[[str], Condition]) -> Condition:
    """Return the condition that holds where one of the values does: filters of one name are alternatives."""
    alternatives = tuple(map(make, values))
    return lambda container: any(condition(container) for condition in alternatives)


def _created_before(instant_ns: int) -> Condition:
    return lambda container: container.created_ns < instant_ns


def _created_since(instant_ns: int) -> Condition:
    return lambda container: container.created_ns > instant_ns


def _label(text: str) -> Condition:
    return lambda container: labels.hold(container.labels, text)


def _matching(name: str, text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ContainerError(f"Invalid filter '{name}={text}': {error}") from error


def _name(text: str) -> Condition:
    pattern = _matching("name", text)
    return lambda container: any(pattern.search(name) for name in (container.name, f"/{container.name}"))


def _id(text: str) -> Condition:
    pattern = _matching("id", text)
    return lambda container: pattern.search(container.id) is not None


def _status(text: str) -> Condition:
    if text not in STATUSES:
        raise ContainerError(f"Invalid filter 'status={text}'", hint=f"one of: {', '.join(STATUSES)}")
    return lambda container: container.status == text


def _health(text: str) -> Condition:
    if text not in HEALTHS:
        raise ContainerError(f"Unrecognised filter value for health: {text}", hint=f"one of: {', '.join(HEALTHS)}")
    return lambda container: container.health == text


def _exited(text: str) -> Condition:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ContainerError(f"Invalid filter 'exited={text}'", hint="exited=0")
    code = int(text)
    return lambda container: container.has_run and container.status == "exited" and container.exit_code == code


def _task(text: str) -> Condition:
    if text.lower() not in _TRUTHS:
        raise ContainerError(f"Invalid filter 'is-task=[{text}]'", hint="is-task=false")
    return lambda _: not _TRUTHS[text.lower()]  # there are no tasks without a swarm


def _isolation(text: str) -> Condition:
    return lambda _: text in ("", "default")


def _network(text: str) -> Condition:
    return lambda container: (
        text in container.networks
        or any(len(text) > 2 and network.startswith(text) and len(network) == 64 for network in container.networks)
    )


def _volume(text: str) -> Condition:
    return lambda container: text in container.volumes


def _ancestor(text: str) -> Condition:
    return lambda container: container.is_of(text)


def _ports(name: str, text: str) -> frozenset[ContainerPort]:
    found = port_bindings.ports(text)
    if not found:
        raise ContainerError(f"Invalid filter '{name}={text}'", hint=f"{name}=80/tcp")
    return frozenset(found)


def _publish(text: str) -> Condition:
    wanted = _ports("publish", text)
    return lambda container: bool(wanted & container.published)


def _expose(text: str) -> Condition:
    wanted = _ports("expose", text)
    return lambda container: bool(wanted & container.exposed)


_MAKERS: Mapping[str, Callable[[str], Condition]] = {
    "ancestor": _ancestor,
    "exited": _exited,
    "expose": _expose,
    "health": _health,
    "id": _id,
    "isolation": _isolation,
    "name": _name,
    "network": _network,
    "publish": _publish,
    "status": _status,
    "volume": _volume,
}
