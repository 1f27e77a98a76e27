"""What there is of a project: containers, networks and volumes, found by their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lab.compose import naming
from lab.compose.model import Condition, Dependency, Project, Service
from lab.container import inspection
from lab.container.containers import Container, Containers
from lab.container.network.networks import Networks
from lab.container.volumes import points
from lab.container.volumes.model import MountType
from lab.container.volumes.store import VolumeStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ExistingContainer:
    """A container of a project; ``status`` is docker's word, ``health`` "" without a check.

    ``volumes`` are the names of its volumes by their path inside, ``anonymous`` those of them that nobody named.
    """

    id: str
    name: str
    service: str
    number: int = 1
    is_one_off: bool = False
    config_hash: str = ""
    image_id: str = ""
    status: str = "running"
    exit_code: int = 0
    health: str = ""
    volumes: Mapping[str, str] = field(default_factory=dict)
    anonymous: frozenset[str] = frozenset()
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_up(self) -> bool:
        """Whether it runs, or will by itself."""
        return self.status in ("running", "paused", "restarting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Existing:
    """What there is: a project's containers, and all networks and volumes by name with their labels."""

    containers: tuple[ExistingContainer, ...] = ()
    networks: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    volumes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, service: str) -> tuple[ExistingContainer, ...]:
        """Return a service's containers by number, without those of `run`."""
        found = (each for each in self.containers if each.service == service and not each.is_one_off)
        return tuple(sorted(found, key=lambda each: (each.number, each.name)))

    def orphans(self, project: Project) -> tuple[ExistingContainer, ...]:
        """Return the containers of services that the files do not have, without those of `run`."""
        return tuple(each for each in self.containers if each.service not in project.services and not each.is_one_off)


def look(containers: Containers, project_name: str) -> Existing:
    """Return what there is of a project now."""
    volumes = VolumeStore(containers.paths).all()
    anonymous = {each.name for each in volumes if each.is_anonymous}
    return Existing(
        containers=tuple(_container(each, anonymous) for each in of_project(containers, project_name)),
        networks={each.name: each.labels for each in Networks(containers.paths).all()},
        volumes={each.name: each.labels for each in volumes},
    )


def of_project(containers: Containers, project_name: str) -> tuple[Container, ...]:
    """Return the containers of a project, those of `run` included."""
    return tuple(each for each in containers.all() if each.record.options.labels.get(naming.PROJECT) == project_name)


def _container(container: Container, anonymous: Iterable[str]) -> ExistingContainer:
    labels = container.record.options.labels
    number = labels.get(naming.NUMBER, "1")
    mounts = points.read(container.state.bundle)
    volumes = {each.destination: each.name for each in mounts if each.type == MountType.VOLUME}
    return ExistingContainer(
        id=container.id,
        name=container.name,
        service=labels.get(naming.SERVICE, ""),
        number=int(number) if number.isdecimal() else 1,
        is_one_off=labels.get(naming.ONE_OFF, "False") == "True",
        config_hash=labels.get(naming.CONFIG_HASH, ""),
        image_id=container.record.image_id,
        status=container.status,
        exit_code=container.exit_code,
        health=inspection.health_status(container) if container.is_running else "",
        volumes=volumes,
        anonymous=frozenset(volumes.values()) & frozenset(anonymous),
        labels=labels,
    )


def as_project(name: str, existing: Existing) -> Project:
    """Return a project of which there are no files: its services are those that its containers tell of."""
    return Project(
        name=name,
        working_directory="",
        services={
            each.service: Service(name=each.service, depends_on=_dependencies(each.labels))
            for each in sorted(existing.containers, key=lambda each: each.service)
        },
    )


def _dependencies(labels: Mapping[str, str]) -> dict[str, Dependency]:
    found = (text.split(":") for text in labels.get(naming.DEPENDS_ON, "").split(",") if text)
    return {
        name: Dependency(condition=Condition(rest[0]) if rest else Condition.STARTED, restart=rest[1:] == ["true"])
        for name, *rest in found
    }
