"""A project that is to stop, or to go -> the steps; pure. Those that depend on others go before them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.compose import naming, plan
from lab.compose.existing import Existing, ExistingContainer
from lab.compose.model import Project
from lab.compose.steps import (
    AwaitCondition,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    StartContainer,
    Step,
    StopContainer,
)
from lab.container.volumes.model import ANONYMOUS_LABEL


@dataclass(frozen=True, slots=True, kw_only=True)
class DownWishes:
    """What `down` is asked for; ``images`` is "", "all" or "local" (those that have no name of their own)."""

    volumes: bool = False
    images: str = ""
    removes_orphans: bool = False
    timeout_s: int | None = None


def stop(
    project: Project, containers: Sequence[ExistingContainer], *, timeout_s: int | None = None
) -> tuple[Step, ...]:
    """Return the steps that stop containers, each service after those that depend on it."""
    return tuple(
        Step(
            key=f"stop {each.id}",
            action=StopContainer(name=each.name, reference=each.id, service=each.service, timeout_s=timeout_s),
            after=tuple(f"stop {other.id}" for other in containers if _depends(project, other.service, each.service)),
        )
        for each in containers
        if each.is_up
    )


def _depends(project: Project, service: str, other: str) -> bool:
    return service in project.services and other in project.services[service].depends_on


def start(project: Project, existing: Existing, services: Collection[str]) -> tuple[Step, ...]:
    """Return the steps that start what there is of services, each after what it depends on."""
    found: list[Step] = []
    for name in services:
        conditions = [each for each in plan.conditions_of(project, name, existing) if _is_of(each, services)]
        needed = [each.name for other in project.services[name].depends_on for each in existing.of(other)]
        before = (*(f"start {each}" for each in needed), *(step.key for step in conditions))
        found += conditions
        found += [
            Step(key=f"start {each.name}", action=StartContainer(name=each.name, service=name), after=before)
            for each in existing.of(name)
        ]
    return tuple(found)


def _is_of(condition: Step, services: Collection[str]) -> bool:
    return isinstance(condition.action, AwaitCondition) and condition.action.service in services


def remove(containers: Sequence[ExistingContainer], *, volumes: bool, force: bool) -> tuple[Step, ...]:
    """Return the steps that remove containers, and with ``volumes`` those of theirs that nobody named."""
    return tuple(_removals(containers, volumes=volumes, force=force))


def _removals(containers: Sequence[ExistingContainer], *, volumes: bool, force: bool) -> Iterator[Step]:
    for each in containers:
        yield Step(
            key=f"remove {each.id}",
            action=RemoveContainer(name=each.name, reference=each.id, volumes=volumes, force=force),
            after=(f"stop {each.id}",),
        )
    if volumes:
        gone = tuple(f"remove {each.id}" for each in containers)
        for name in sorted({name for each in containers for name in each.anonymous}):
            yield Step(key=f"volume {name}", action=RemoveVolume(name=name, is_anonymous=True), after=gone)


def down(project: Project, existing: Existing, services: Collection[str], wishes: DownWishes) -> tuple[Step, ...]:
    """Return the steps after which nothing of the services is left; of all of them: nothing of the project.

    Volumes that have a name are left unless ``wishes`` say otherwise, and what is external always is.
    """
    is_whole = set(services) >= set(project.services)
    gone = [
        each
        for each in existing.containers
        if each.service in services or (each.service not in project.services and wishes.removes_orphans)
    ]
    found = [*stop(project, gone, timeout_s=wishes.timeout_s), *remove(gone, volumes=wishes.volumes, force=True)]
    after = tuple(f"remove {each.id}" for each in gone)
    if is_whole:
        names = _own(existing.networks, project.name)
        found += [Step(key=f"network {name}", action=RemoveNetwork(name=name), after=after) for name in names]
        if wishes.volumes:
            found += _volumes(project, existing, after)
    if wishes.images:
        wanted = (project.services[name] for name in services)
        names = [naming.image_name(project, each) for each in wanted if wishes.images == "all" or not each.image]
        found += [
            Step(key=f"image {name}", action=RemoveImage(name=name), after=after) for name in dict.fromkeys(names)
        ]
    return tuple(found)


def _volumes(project: Project, existing: Existing, after: tuple[str, ...]) -> Iterator[Step]:
    """Give the removal of a project's volumes, but for those that go with their containers anyway."""
    with_containers = {name for each in existing.containers for name in each.anonymous}
    for name in _own(existing.volumes, project.name):
        if name not in with_containers:
            is_anonymous = ANONYMOUS_LABEL in existing.volumes[name]
            yield Step(key=f"volume {name}", action=RemoveVolume(name=name, is_anonymous=is_anonymous), after=after)


def _own(labelled: Mapping[str, Mapping[str, str]], project: str) -> list[str]:
    return sorted(name for name, labels in labelled.items() if labels.get(naming.PROJECT) == project)
