"""The order of services: which can start side by side, which wait for which; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.compose.model import Project


def select(project: Project, names: Sequence[str] = (), *, with_dependencies: bool = True) -> tuple[str, ...]:
    """Return the services that a command is about, in the file's order: the named ones and what they need.

    No names: every active service.

    Raises:
        SpecError: there is no such service.
    """
    raise NotImplementedError


def levels(project: Project, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return ``names`` in levels: those of a level need only those of earlier ones. Stopping goes the other way."""
    raise NotImplementedError
