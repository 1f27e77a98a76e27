"""Carries the actions of a plan out, each on the engine, and tells of it in docker compose's words."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from lab.compose import files, hooks, naming, waiting
from lab.compose.model import Condition, Network, Project
from lab.compose.options import Place, options_of
from lab.compose.plan import BuildWishes
from lab.compose.steps import (
    Action,
    AwaitCondition,
    BuildImage,
    Cancellation,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    KeepContainer,
    PullImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    StartContainer,
    StopContainer,
)
from lab.container import event_actors, pruning
from lab.container.containers import Containers
from lab.container.image.build_progress import Observer as BuildObserver
from lab.container.image.store import ImageStore
from lab.container.network.networks import Networks
from lab.container.network.request import Request
from lab.container.volumes.store import VolumeStore
from lab.errors import (
    ContainerError,
    NoSuchContainer,
    NoSuchNetwork,
    NoSuchVolume,
    RegistryError,
    StateConflict,
    WaitCancelled,
)
from lab.paths import Paths


class Observer(Protocol):
    """Who is told what happens; safe to be called from several threads."""

    def progress(self, subject: str, status: str) -> None:
        """Tell that something, such as "Container web-1", is "Starting", "Started"…"""
        ...

    def warn(self, text: str) -> None:
        """Tell the user something that is not in the way."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Suppliers:
    """How images are had: ``fetch`` has one by name and platform from its registry, and raises ``RegistryError``."""

    fetch: Callable[[str, str], None]
    build_observer: Callable[[str], BuildObserver]
    environ: Mapping[str, str]
    builds: BuildWishes = field(default_factory=BuildWishes)


class Performer:
    """Performs the actions of one project's plan; safe to be called from several threads."""

    def __init__(
        self, paths: Paths, project: Project, observer: Observer, suppliers: Suppliers, *, wait_s: int | None = None
    ) -> None:
        """``wait_s`` is how long `up --wait` waits, None for ever."""
        self._paths, self._project, self._observer, self._suppliers = paths, project, observer, suppliers
        self._wait_s = wait_s

    def perform(self, action: Action, cancellation: Cancellation) -> None:
        """Perform one action; what it raises is what the engine raises."""
        match action:
            case CreateNetwork():
                self._create_network(action.network)
            case CreateVolume():
                with self._told(f'Volume "{action.volume.name}"', "Creating", "Created"):
                    labels = naming.volume_labels(self._project, action.volume)
                    VolumeStore(self._paths).create(
                        action.volume.name, labels=labels, options=dict(action.volume.driver_opts)
                    )
            case RemoveNetwork():
                self._remove_network(action.name)
            case RemoveVolume():
                self._remove_volume(action)
            case RemoveImage():
                self._remove_image(action.name)
            case BuildImage():
                self._build(action.service, action.name)
            case PullImage():
                self._pull(action)
            case AwaitCondition():
                self._await(action, cancellation)
            case _:
                with Containers(self._paths) as containers:
                    self._perform_on_container(containers, action)

    def _perform_on_container(
        self,
        containers: Containers,
        action: CreateContainer | KeepContainer | StartContainer | StopContainer | RemoveContainer | RenameContainer,
    ) -> None:
        subject = f"Container {action.name}"
        match action:
            case CreateContainer():
                words = ("Recreate", "Recreated") if action.replaces else ("Creating", "Created")
                with self._told(subject, *words):
                    self._create(containers, action)
            case KeepContainer():
                self._observer.progress(subject, "Running")
            case StartContainer():
                with self._told(subject, "Starting", "Started"):
                    self._start(containers, action)
            case StopContainer():
                with self._told(subject, "Stopping", "Stopped"), contextlib.suppress(NoSuchContainer):
                    self._stop(containers, action.reference, action.service, action.timeout_s)
            case RemoveContainer():
                with self._told(subject, "Removing", "Removed"), contextlib.suppress(NoSuchContainer):
                    containers.remove(action.reference, force=action.force, volumes=action.volumes)
            case RenameContainer():
                containers.rename(action.reference, action.name)

    @contextlib.contextmanager
    def _told(self, subject: str, begins: str, ends: str) -> Iterator[None]:
        self._observer.progress(subject, begins)
        try:
            yield
        except BaseException:
            self._observer.progress(subject, "Error")
            raise
        self._observer.progress(subject, ends)

    # -- containers ----------------------------------------------------------------------------------------------------

    def _create(self, containers: Containers, action: CreateContainer) -> None:
        """Make a container; one that takes another one's place has its name only when that is gone."""
        service = self._project.services[action.service]
        image = containers.images.resolve(naming.image_name(self._project, service))
        place = Place(
            number=action.number,
            image_id=image.config_digest,
            inherits=action.inherits,
            of_image=tuple(image.config.config.volumes),
            files=files.places(self._paths, self._project, service),
        )
        options = options_of(self._project, service, place)
        name = action.name
        if action.replaces:
            name = naming.temporary_name(action.name, action.replaces)
            options = replace(options, labels={**options.labels, naming.REPLACES: action.replaces})
        created = containers.create(options, name=name, environ=self._suppliers.environ)
        for warning in created.warnings:
            self._observer.warn(warning)
        if action.replaces:
            with contextlib.suppress(NoSuchContainer):
                self._stop(containers, action.replaces, action.service, action.timeout_s)
                containers.remove(action.replaces, force=True)
            containers.rename(created.id, action.name)

    def _start(self, containers: Containers, action: StartContainer) -> None:
        container = containers.get(action.name)
        if container.is_running:
            return
        containers.start(container.id).close()
        service = self._project.services.get(action.service)
        for hook in service.post_start if service is not None else ():
            hooks.run(containers, containers.get(container.id), hook)

    def _stop(self, containers: Containers, reference: str, service_name: str, timeout_s: int | None) -> None:
        service = self._project.services.get(service_name)
        container = containers.get(reference)
        for hook in service.pre_stop if service is not None and container.is_running else ():
            hooks.run(containers, container, hook)
        containers.stop(container.id, timeout_s=timeout_s)

    def _await(self, action: AwaitCondition, cancellation: Cancellation) -> None:
        ends = "Exited" if action.condition == Condition.COMPLETED else "Healthy"
        met = waiting.condition(action.condition, action.service)
        timeout_s = self._wait_s if action.condition is None else None
        try:
            with contextlib.ExitStack() as stack:
                for name in action.names:
                    stack.enter_context(self._told(f"Container {name}", "Waiting", ends))
                containers = stack.enter_context(Containers(self._paths))
                waiting.until(containers, action.names, met, cancellation, timeout_s=timeout_s)
        except WaitCancelled:
            raise
        except ContainerError as error:
            if action.is_fatal:
                raise
            self._observer.warn(f'optional dependency "{action.service}" failed to start: {error}')

    # -- networks and volumes ------------------------------------------------------------------------------------------

    def _create_network(self, network: Network) -> None:
        request = Request(
            name=network.name,
            driver=network.driver or "bridge",
            subnets=tuple(pool.subnet for pool in network.ipam_pools if pool.subnet),
            gateways=tuple(pool.gateway for pool in network.ipam_pools if pool.gateway),
            ip_ranges=tuple(pool.ip_range for pool in network.ipam_pools if pool.ip_range),
            internal=network.internal,
            ipv6=bool(network.enable_ipv6),
            attachable=network.attachable,
            labels=naming.network_labels(self._project, network),
            options=dict(network.driver_opts),
        )
        with self._told(f"Network {network.name}", "Creating", "Created"):
            made = Networks(self._paths).create(request)
            event_actors.note_network(self._paths.run, "create", made.id, {"name": made.name, "type": made.driver})

    def _remove_network(self, name: str) -> None:
        subject = f"Network {name}"
        self._observer.progress(subject, "Removing")
        try:
            pruning.remove_network(self._paths, Networks(self._paths).find(name))
        except NoSuchNetwork:
            pass
        except StateConflict:  # a container of somebody else is on it
            self._observer.progress(subject, "Resource is still in use")
            return
        self._observer.progress(subject, "Removed")

    def _remove_volume(self, action: RemoveVolume) -> None:
        store, subject = VolumeStore(self._paths), f"Volume {action.name}"
        if action.is_anonymous:
            with contextlib.suppress(NoSuchVolume, StateConflict):
                store.remove(action.name)
            return
        self._observer.progress(subject, "Removing")
        try:
            store.remove(action.name)
        except NoSuchVolume:
            pass
        except StateConflict:
            self._observer.progress(subject, "Resource is still in use")
            return
        self._observer.progress(subject, "Removed")

    # -- images --------------------------------------------------------------------------------------------------------

    def _remove_image(self, name: str) -> None:
        subject = f"Image {name}"
        self._observer.progress(subject, "Removing")
        try:
            removed = ImageStore.open(self._paths).remove(name)
        except ContainerError as error:  # it is not there, or another container has it
            self._observer.warn(f"image {name} is left: {error}")
            return
        event_actors.note_removal(
            self._paths.run, removed.image_id, names=len(removed.untagged), is_deleted=bool(removed.deleted)
        )
        self._observer.progress(subject, "Removed")

    def _build(self, service_name: str, image: str) -> None:
        from lab.compose import build  # half a second, and most commands build nothing

        fetch = self._suppliers.fetch
        service = self._project.services[service_name]
        wanted = build.request(self._project, service, self._suppliers.builds, lambda name: fetch(name, ""))
        with self._told(f"Image {image}", "Building", "Built"):
            build.build(self._paths, wanted, self._suppliers.build_observer(service_name))

    def _pull(self, action: PullImage) -> None:
        subject = f"Image {action.name}"
        self._observer.progress(subject, "Pulling")
        try:
            self._suppliers.fetch(action.name, action.platform)
        except RegistryError as error:
            self._observer.progress(subject, "Error")
            if not action.may_build:
                raise
            self._observer.warn(str(error))
            self._build(action.service, action.name)
            return
        self._observer.progress(subject, "Pulled")
