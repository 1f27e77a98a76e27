"""What a project is to be, and what there is of it -> the steps from here to there; pure."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from lab.compose import naming
from lab.compose.existing import Existing, ExistingContainer
from lab.compose.graph import levels
from lab.compose.model import Condition, Project, Service
from lab.compose.options import anonymous_targets
from lab.compose.steps import (
    AwaitCondition,
    BuildImage,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    KeepContainer,
    PullImage,
    RemoveContainer,
    RemoveVolume,
    RenameContainer,
    StartContainer,
    Step,
    StopContainer,
)
from lab.errors import SpecError, StateConflict


class Recreate(StrEnum):
    """Which containers are made anew."""

    CHANGED = "changed"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The image that a service's containers are to be made of: its id, and the paths that it declares as volumes."""

    id: str
    volumes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What `up` and `create` are asked for: docker compose's flags.

    ``services`` are in the files' order, those that the command ``named`` among them: ``recreate`` is about these, of
    the others only what has changed is made anew. ``scale`` is the number of containers by service.
    """

    services: tuple[str, ...]
    named: tuple[str, ...] = ()
    recreate: Recreate = Recreate.CHANGED
    recreate_dependencies: Recreate = Recreate.CHANGED
    scale: Mapping[str, int] = field(default_factory=dict)
    renews_volumes: bool = False
    removes_orphans: bool = False
    starts: bool = True
    awaits: bool = False
    timeout_s: int | None = None


def converge(project: Project, existing: Existing, images: Mapping[str, Image], wishes: Wishes) -> tuple[Step, ...]:
    """Return the steps after which the services of ``wishes`` are as the files say.

    Raises:
        SpecError: a service with a container name of its own is to have several containers.
        StateConflict: a network or volume is not what the files say, and cannot be changed.
    """
    found = list(foundations(project, existing, wishes.services))
    if wishes.removes_orphans:
        found += _removals(existing.orphans(project), timeout_s=wishes.timeout_s)
    changed: set[str] = set()
    for name in itertools.chain.from_iterable(levels(project, wishes.services)):
        planner = _ServicePlanner(project, project.services[name], existing, images.get(name), wishes, changed)
        found += planner.steps()
        if planner.has_changed:
            changed.add(name)
    return tuple(found)


# -- what containers stand on ------------------------------------------------------------------------------------------


def foundations(project: Project, existing: Existing, services: Collection[str]) -> tuple[Step, ...]:
    """Return the steps after which the networks and volumes of services are there.

    Raises:
        StateConflict: one that is external is not there, or one is not what the files say.
    """
    return (*_networks(project, existing, services), *_volumes(project, existing, services))


def _networks(project: Project, existing: Existing, services: Collection[str]) -> Iterator[Step]:
    wanted = dict.fromkeys(key for name in services for key in project.services[name].networks)
    for key, network in ((key, project.networks[key]) for key in wanted):
        labels = existing.networks.get(network.name)
        if network.external:
            if labels is None:
                raise StateConflict(
                    f"network {network.name} declared as external, but could not be found",
                    hint=f"lab network create {network.name}",
                )
        elif labels is None:
            yield Step(key=f"network {key}", action=CreateNetwork(network=network))
        elif labels.get(naming.PROJECT) == project.name:
            _require_unchanged("network", network.name, labels, naming.settings_hash(network))


def _volumes(project: Project, existing: Existing, services: Collection[str]) -> Iterator[Step]:
    wanted = dict.fromkeys(
        each.source
        for name in services
        for each in project.services[name].volumes
        if each.source in project.volumes and each.type == "volume"
    )
    for key, volume in ((key, project.volumes[key]) for key in wanted):
        labels = existing.volumes.get(volume.name)
        if volume.external:
            if labels is None:
                raise StateConflict(
                    f'external volume "{volume.name}" not found', hint=f"lab volume create {volume.name}"
                )
        elif labels is None:
            yield Step(key=f"volume {key}", action=CreateVolume(volume=volume))
        elif labels.get(naming.PROJECT) == project.name:
            _require_unchanged("volume", volume.name, labels, naming.settings_hash(volume))


def _require_unchanged(kind: str, name: str, labels: Mapping[str, str], wanted: str) -> None:
    if labels.get(naming.CONFIG_HASH, wanted) != wanted:
        removal = "lab compose down" if kind == "network" else f"lab compose down, then lab volume rm {name}"
        raise StateConflict(
            f'{kind} "{name}" exists but doesn\'t match configuration in compose file: it needs to be recreated',
            hint=removal,
        )


# -- one service -------------------------------------------------------------------------------------------------------


class _ServicePlanner:
    """The steps of one service; ``changed`` are the services before it whose containers are made anew."""

    def __init__(
        self,
        project: Project,
        service: Service,
        existing: Existing,
        image: Image | None,
        wishes: Wishes,
        changed: Collection[str],
    ) -> None:
        self._project, self._service, self._existing = project, service, existing
        self._image, self._wishes, self._changed = image, wishes, changed
        self._start_after: tuple[str, ...] = ()
        self.has_changed = False

    @property
    def _count(self) -> int:
        return self._wishes.scale.get(self._service.name, self._service.replicas)

    def steps(self) -> Iterator[Step]:
        """Give all of them."""
        if self._service.container_name and self._count > 1:
            raise SpecError(
                f'The "{self._service.name}" service is using the custom container name'
                f' "{self._service.container_name}". Docker requires each container to have a unique name.'
                " Remove the custom name to scale the service"
            )
        there, unfinished = _settled(self._project, self._service, self._existing)
        kept, superfluous = there[: self._count], there[self._count :]
        conditions = tuple(self._conditions())
        self._start_after = (*self._dependencies(), *(step.key for step in (*conditions, *unfinished)))
        before = self._before(unfinished)
        steps = [step for each in kept for step in self._kept(each, before)]
        steps += [step for name, number in self._new(kept) for step in self._made(name, number, before)]
        yield from (*unfinished, *_removals(superfluous, timeout_s=self._wishes.timeout_s))
        if any(isinstance(step.action, StartContainer) for step in steps):
            yield from conditions
        yield from steps
        if self._wishes.awaits and self._wishes.starts and steps:
            yield self._awaited()

    def _new(self, kept: Sequence[ExistingContainer]) -> Iterator[tuple[str, int]]:
        """Give name and number of the containers that are missing."""
        first = max((each.number for each in kept), default=0) + 1
        for number in range(first, first + self._count - len(kept)):
            yield naming.container_name(self._project, self._service, number), number

    def _made(self, name: str, number: int, before: tuple[str, ...]) -> Iterator[Step]:
        self.has_changed = True
        action = CreateContainer(name=name, service=self._service.name, number=number)
        yield Step(key=f"create {name}", action=action, after=before)
        yield from self._started(name)

    def _awaited(self) -> Step:
        names = self._names_of(self._service.name)
        return Step(
            key=f"up {self._service.name}",
            action=AwaitCondition(names=names, condition=None, service=self._service.name),
            after=tuple(f"start {name}" for name in names),
        )

    def _before(self, unfinished: Sequence[Step]) -> tuple[str, ...]:
        """Return the keys of what the creation of a container has to wait for."""
        service = self._service
        volumes = (f"volume {each.source}" for each in service.volumes if each.source)
        joined = (f"create {self._first_of(name)}" for name in naming.joined_services(service))
        return (
            *(f"network {key}" for key in service.networks),
            *volumes,
            *joined,
            *(step.key for step in unfinished),
        )

    def _first_of(self, name: str) -> str:
        return naming.container_name(self._project, self._project.services[name], 1)

    def _kept(self, each: ExistingContainer, before: tuple[str, ...]) -> Iterator[Step]:
        name = naming.container_name(self._project, self._service, each.number)
        if self._is_outdated(each):
            self.has_changed = True
            action = CreateContainer(
                name=name,
                service=self._service.name,
                number=each.number,
                replaces=each.id,
                inherits={} if self._wishes.renews_volumes else self._inherited(each),
                timeout_s=self._wishes.timeout_s,
            )
            yield Step(key=f"create {name}", action=action, after=before)
            for left in sorted(each.anonymous) if self._wishes.renews_volumes else ():
                gone = RemoveVolume(name=left, is_anonymous=True)
                yield Step(key=f"volume {left}", action=gone, after=(f"create {name}",))
            yield from self._started(name)
        elif not each.is_up:
            yield from self._started(name)
        elif self._restarts():
            action_before = StopContainer(name=name, reference=each.id, service=self._service.name)
            yield Step(key=f"stop {name}", action=action_before, after=before)
            yield from self._started(name)
        else:
            yield Step(key=f"start {name}", action=KeepContainer(name=name))

    def _is_outdated(self, each: ExistingContainer) -> bool:
        named = self._service.name in self._wishes.named or not self._wishes.named
        wanted = self._wishes.recreate if named else self._wishes.recreate_dependencies
        if wanted != Recreate.CHANGED:
            return wanted == Recreate.ALWAYS
        return (
            each.config_hash != naming.config_hash(self._project, self._service)
            or (self._image is not None and each.image_id != self._image.id)
            or not set(naming.joined_services(self._service)).isdisjoint(self._changed)
        )

    def _inherited(self, each: ExistingContainer) -> dict[str, str]:
        """Return the anonymous volumes that go over to the next container, by path."""
        wanted = anonymous_targets(self._service, self._image.volumes if self._image is not None else ())
        found = ((path, each.volumes.get(path, "")) for path in wanted)
        return {path: name for path, name in found if name in each.anonymous}

    def _restarts(self) -> bool:
        """Return whether a dependency that was made anew wants this service to start again."""
        return any(each.restart and name in self._changed for name, each in self._service.depends_on.items())

    def _started(self, name: str) -> Iterator[Step]:
        if not self._wishes.starts:
            return
        yield Step(
            key=f"start {name}",
            action=StartContainer(name=name, service=self._service.name),
            after=(f"create {name}", f"stop {name}", *self._start_after),
        )

    def _dependencies(self) -> Iterator[str]:
        """Give the keys of the starts of all containers that this service depends on."""
        for name in self._service.depends_on:
            if name in self._wishes.services:
                yield from (f"start {each}" for each in self._names_of(name))

    def _conditions(self) -> Iterator[Step]:
        """Give what is waited for, if anything of this service is to start."""
        for name, dependency in self._service.depends_on.items():
            is_meant = name in self._wishes.services and self._wishes.starts and self._count
            if not is_meant or dependency.condition == Condition.STARTED:
                continue
            yield Step(
                key=f"{self._service.name} needs {name}",
                action=AwaitCondition(
                    names=self._names_of(name),
                    condition=dependency.condition,
                    is_fatal=dependency.required,
                    service=name,
                ),
                after=tuple(f"start {each}" for each in self._names_of(name)),
            )

    def _names_of(self, name: str) -> tuple[str, ...]:
        """Return what the containers of a service will be called."""
        service = self._project.services[name]
        count = self._wishes.scale.get(name, service.replicas)
        there, _ = _settled(self._project, service, self._existing)
        numbers = [each.number for each in there[:count]]
        free = itertools.count(max(numbers, default=0) + 1)
        numbers += itertools.islice(free, max(count - len(numbers), 0))
        return tuple(naming.container_name(self._project, service, number) for number in numbers)


def _settled(project: Project, service: Service, existing: Existing) -> tuple[list[ExistingContainer], list[Step]]:
    """Return a service's containers by number, one each, and the steps that clear up what a killed command has left.

    A container that was to take another one's place is removed where that is still there, and gets its name where it
    is not.
    """
    kept: list[ExistingContainer] = []
    steps: list[Step] = []
    for number, group in itertools.groupby(existing.of(service.name), key=lambda each: each.number):
        name = naming.container_name(project, service, number)
        first, *others = sorted(group, key=lambda each: (each.name != name, naming.REPLACES in each.labels))
        kept.append(first)
        for each in others:
            action = RemoveContainer(name=each.name, reference=each.id, force=True)
            steps.append(Step(key=f"clear {each.name}", action=action))
        if naming.REPLACES in first.labels and first.name == naming.temporary_name(name, first.labels[naming.REPLACES]):
            steps.append(Step(key=f"rename {name}", action=RenameContainer(name=name, reference=first.id)))
    return kept, steps


def _removals(containers: Sequence[ExistingContainer], *, timeout_s: int | None) -> Iterator[Step]:
    for each in containers:
        stop = StopContainer(name=each.name, reference=each.id, service=each.service, timeout_s=timeout_s)
        yield Step(key=f"end {each.id}", action=stop)
        yield Step(
            key=f"remove {each.id}",
            action=RemoveContainer(name=each.name, reference=each.id, force=True),
            after=(f"end {each.id}",),
        )


def conditions_of(project: Project, service: str, existing: Existing) -> tuple[Step, ...]:
    """Return what a service waits for before it starts, where the containers that it needs are there already."""
    return tuple(
        Step(
            key=f"{service} needs {other}",
            action=AwaitCondition(
                names=tuple(each.name for each in existing.of(other)),
                condition=dependency.condition,
                is_fatal=dependency.required,
                service=other,
            ),
            after=tuple(f"start {each.name}" for each in existing.of(other)),
        )
        for other, dependency in project.services[service].depends_on.items()
        if existing.of(other) and dependency.condition != Condition.STARTED
    )


# -- images ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageWishes:
    """How images are to be had: ``pull`` replaces every service's policy if it is not "", ``builds`` all that can be.

    With ``builds_none`` nothing is, as --no-build wants.
    """

    pull: str = ""
    builds: bool = False
    builds_none: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildWishes:
    """What `build` is asked for beyond the files; ``args`` replace theirs."""

    no_cache: bool = False
    pull: bool = False
    args: Mapping[str, str] = field(default_factory=dict)


def images(
    project: Project, services: Collection[str], present: Collection[str], wishes: ImageWishes
) -> tuple[Step, ...]:
    """Return the steps after which the images of services are there; ``present`` are the names of those that are.

    Raises:
        SpecError: a policy is none.
    """
    found: dict[str, Step] = {}
    builds: tuple[str, ...] = ()  # one after the other: each uses all processors by itself, and shows what it does
    for name in services:
        service = project.services[name]
        image = naming.image_name(project, service)
        step = _image(service, image, image in present, wishes)
        if step is not None and step.key not in found:
            is_build = isinstance(step.action, BuildImage)
            found[step.key] = replace(step, after=builds[-1:]) if is_build else step
            builds += (step.key,) * is_build
    return tuple(found.values())


_MISSING = ("", "missing", "if_not_present")
_PERIODS = ("daily", "weekly", "every_")


def _image(service: Service, image: str, is_present: bool, wishes: ImageWishes) -> Step | None:
    policy = wishes.pull if wishes.pull and wishes.pull != "policy" else service.pull_policy
    if policy not in (*_MISSING, "always", "never", "build") and not policy.startswith(_PERIODS):
        raise SpecError(f"service {service.name}: invalid pull policy '{policy}'", hint="always, missing, never, build")
    can_build = service.build is not None and not wishes.builds_none
    build = Step(key=f"image {image}", action=BuildImage(service=service.name, name=image))
    if can_build and (wishes.builds or policy == "build"):
        return build
    pull = Step(
        key=f"image {image}",
        action=PullImage(
            service=service.name, name=image, platform=service.platform, may_build=can_build and bool(service.image)
        ),
    )
    if policy == "always" and not (service.build is not None and not service.image):
        return pull
    if is_present or policy == "never":
        return None
    return build if can_build and (not service.image or policy in _MISSING) else pull
