"""A project on an engine: look what there is, plan, and carry the plan out, or only tell of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from lab.compose import files, naming, plan, plan_down, plan_warnings
from lab.compose.existing import Existing, ExistingContainer, look
from lab.compose.model import Project
from lab.compose.perform import Observer, Performer, Suppliers
from lab.compose.plan import Image, ImageWishes, Wishes
from lab.compose.plan_down import DownWishes
from lab.compose.steps import Step, carry_out
from lab.container.containers import Containers
from lab.errors import ImageNotFound
from lab.paths import Paths

SIDE_BY_SIDE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How plans are carried out: so many steps ``side_by_side``; with ``tell``, a dry run, none: it gets each step."""

    side_by_side: int = SIDE_BY_SIDE
    tell: Callable[[Step], None] | None = None
    wait_s: int | None = None


class Operation:
    """What can be done to a project; every method leaves a state from which it can be called again."""

    def __init__(
        self, paths: Paths, project: Project, observer: Observer, suppliers: Suppliers, manner: Manner
    ) -> None:
        """Nothing is looked at or done yet."""
        self.paths, self.project = paths, project
        self._observer, self._suppliers, self._manner = observer, suppliers, manner

    def existing(self) -> Existing:
        """Return what there is of the project now."""
        with Containers(self.paths) as containers:
            return look(containers, self.project.name)

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Perform steps, or tell of them in a dry run; what it raises is said at ``steps.carry_out``."""
        if self._manner.tell is not None:
            for step in steps:
                self._manner.tell(step)
            return
        performer = Performer(self.paths, self.project, self._observer, self._suppliers, wait_s=self._manner.wait_s)
        carry_out(steps, performer.perform, side_by_side=self._manner.side_by_side)

    def have_images(self, services: Collection[str], wishes: ImageWishes) -> None:
        """Build and pull what is needed for services."""
        self.carry_out(plan.images(self.project, services, self._present(services), wishes))

    def _present(self, services: Collection[str]) -> set[str]:
        names = {naming.image_name(self.project, self.project.services[name]) for name in services}
        with Containers(self.paths) as containers:
            return {name for name in names if self._image(containers, name) is not None}

    def _image(self, containers: Containers, name: str) -> Image | None:
        try:
            found = containers.images.resolve(name)
        except ImageNotFound:
            return None
        return Image(id=found.config_digest, volumes=tuple(found.config.config.volumes))

    def images(self, services: Collection[str]) -> dict[str, Image]:
        """Return the images of those services that have one, by service."""
        with Containers(self.paths) as containers:
            named = ((each, naming.image_name(self.project, self.project.services[each])) for each in services)
            found = ((each, self._image(containers, image)) for each, image in named)
            return {each: image for each, image in found if image is not None}

    def converge(self, wishes: Wishes) -> None:
        """Have the containers of services as the files say, and all that they stand on; their images are there."""
        existing = self.existing()
        for text in plan_warnings.warnings(
            self.project, existing, wishes.services, removes_orphans=wishes.removes_orphans
        ):
            self._observer.warn(text)
        self.carry_out(plan.converge(self.project, existing, self.images(wishes.services), wishes))

    def up(self, wishes: Wishes, images: ImageWishes) -> None:
        """Have images, then containers.

        Raises:
            LabError: something could not be had; what was begun is finished, and the next call goes on from there.
        """
        self.have_images(wishes.services, images)
        self.converge(wishes)

    def down(self, services: Collection[str], wishes: DownWishes) -> bool:
        """Stop and remove services, or the whole project; return whether there was anything of it."""
        existing = self.existing()
        steps = plan_down.down(self.project, existing, services, wishes)
        self.carry_out(steps)
        if self._manner.tell is None and set(services) >= set(self.project.services):
            files.forget(self.paths, self.project.name)
        for text in plan_warnings.warnings(self.project, existing, (), removes_orphans=wishes.removes_orphans):
            self._observer.warn(text)
        return bool(steps)

    def stop(self, containers: Sequence[ExistingContainer], *, timeout_s: int | None = None) -> None:
        """Stop containers, those that depend on others before them."""
        self.carry_out(plan_down.stop(self.project, containers, timeout_s=timeout_s))

    def start(self, services: Collection[str]) -> None:
        """Start what there is of services."""
        self.carry_out(plan_down.start(self.project, self.existing(), services))

    def remove(self, containers: Sequence[ExistingContainer], *, volumes: bool, force: bool = False) -> None:
        """Remove containers."""
        self.carry_out(plan_down.remove(containers, volumes=volumes, force=force))
