"""One request on its way through the API: what a route is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.api.aside import Aside
from lab.api.http import Answer, Connection
from lab.api.query import Query
from lab.api.terminals import Terminals
from lab.api.waiting import WaitingClients, Witnesses
from lab.container.containers import Containers
from lab.paths import Paths

API_VERSION = "1.41"
"""The version whose documents these are, which clients agree upon."""
MIN_API_VERSION = "1.24"
MAX_ASKED_VERSION = (1, 60)
"""Newer ones than we offer are asked for by clients that do not negotiate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all calls share: the root, who waits for a container's start, and the process for work on files."""

    paths: Paths
    waiting: WaitingClients
    terminals: Terminals
    witnesses: Witnesses
    aside: Aside


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request: its parameters, the parts of its path by name, and the connection for whatever streams."""

    surroundings: Surroundings
    connection: Connection
    headers: Mapping[str, str]
    query: Query
    names: Mapping[str, str]

    @property
    def paths(self) -> Paths:
        """The root."""
        return self.surroundings.paths

    @property
    def name(self) -> str:
        """What the path names."""
        return self.names["name"]

    def containers(self) -> Containers:
        """Return the containers of the root, to be used in a ``with`` block."""
        return Containers(self.paths)


Route = Callable[[Call], Answer | None]
"""What answers a request; None where it has sent its answer itself."""
Routes = Mapping[tuple[str, str], Route]
"""Routes by method and path; "{name}" is one part of the path, "{name*}" any number of them."""
