"""Which services a command is about, and which of them can start side by side; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from lab.compose.model import Project
from lab.compose.shapes import did_you_mean
from lab.errors import SpecError


def select(project: Project, names: Sequence[str] = (), *, with_dependencies: bool = True) -> tuple[str, ...]:
    """Return the services that a command is about, in the file's order: the named ones and what they need.

    No names: every active service. A dependency that is not required, and in no active profile, is left out.

    Raises:
        SpecError: there is no such service, or a dependency that is required is in no active profile.
    """
    for name in names:
        if name not in project.services:
            raise SpecError(f"no such service: {name}", hint=did_you_mean(name, project.services))
    wanted = set(names) or {name for name in project.services if project.is_active(name)}
    found = _closure(project, wanted) if with_dependencies else wanted
    return tuple(name for name in project.services if name in found)


def levels(project: Project, names: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Return ``names`` in levels: those of one need others of earlier levels only.

    Services of one level can start side by side. Stopping goes through the levels the other way.
    """
    rest = dict.fromkeys(names)
    found: list[tuple[str, ...]] = []
    while rest:
        level = tuple(name for name in rest if rest.keys().isdisjoint(project.services[name].depends_on))
        if not level:  # `load` refuses such a project; this one was made otherwise
            raise SpecError(f"services wait for each other: {', '.join(rest)}")
        found.append(level)
        rest = {name: None for name in rest if name not in level}
    return tuple(found)


def _closure(project: Project, names: Iterable[str]) -> set[str]:
    found: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _dependencies(project, name)
    return found


def _dependencies(project: Project, name: str) -> Iterator[str]:
    for other, dependency in project.services[name].depends_on.items():
        if other in project.services and project.is_active(other):
            yield other
        elif dependency.required:
            raise SpecError(
                f"service {name} depends on {other}, which is in no active profile",
                hint=f"activate one with --profile, or name {other} as well",
            )
