"""What has to be done to a project, as data: steps, and which of them have to be done before which.

``carry_out`` does them, those that do not wait for each other side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from lab.compose.model import Condition, Network, Volume


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNetwork:
    """Make a network of the project."""

    network: Network

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"create network {self.network.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateVolume:
    """Make a volume of the project."""

    volume: Volume

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"create volume {self.volume.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveNetwork:
    """Remove a network that nobody uses."""

    name: str

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"remove network {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveVolume:
    """Remove a volume; one that somebody else uses is left."""

    name: str
    is_anonymous: bool = False

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"remove volume {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveImage:
    """Remove an image; one that somebody else uses is left."""

    name: str

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"remove image {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildImage:
    """Build a service's image."""

    service: str
    name: str

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"build image {self.name} of service {self.service}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PullImage:
    """Have an image from its registry; with ``may_build`` the service is built if the registry has none."""

    service: str
    name: str
    platform: str = ""
    may_build: bool = False

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"pull image {self.name} of service {self.service}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateContainer:
    """Make a container, in place of the one with the id ``replaces``, if any, whose anonymous volumes it ``inherits``.

    The one before is stopped and removed as soon as its successor is made.
    """

    name: str
    service: str
    number: int
    replaces: str = ""
    inherits: Mapping[str, str] = field(default_factory=dict)
    timeout_s: int | None = None

    def __str__(self) -> str:
        """Return what is shown of it."""
        kept = "".join(f", with the volume at {path}" for path in self.inherits)
        return f"{'recreate' if self.replaces else 'create'} container {self.name}{kept}"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepContainer:
    """Leave a container as it is: it runs, and nothing has changed."""

    name: str

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"keep container {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartContainer:
    """Start a container; one that runs already is none that has to be started."""

    name: str
    service: str

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"start container {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StopContainer:
    """Stop a container, by its name or id."""

    name: str
    reference: str
    service: str = ""
    timeout_s: int | None = None

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"stop container {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveContainer:
    """Remove a container that does not run, or one that does by ``force``."""

    name: str
    reference: str
    volumes: bool = False
    force: bool = False

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"remove container {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RenameContainer:
    """Give a container the name that it was to get when a command was killed."""

    name: str
    reference: str

    def __str__(self) -> str:
        """Return what is shown of it."""
        return f"rename container {self.reference[:12]} to {self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AwaitCondition:
    """Wait until the containers of a service are what another one needs; ``is_fatal`` if it cannot do without.

    The ``condition`` is None for what `up --wait` waits for: healthy where there is a check, else running.
    """

    names: tuple[str, ...]
    condition: Condition | None
    is_fatal: bool = True
    service: str = ""

    def __str__(self) -> str:
        """Return what is shown of it."""
        what = "running or healthy" if self.condition is None else self.condition.value.removeprefix("service_")
        return f"wait until {', '.join(self.names)} is {what.replace('_', ' ')}"


Action = (
    CreateNetwork
    | CreateVolume
    | RemoveNetwork
    | RemoveVolume
    | RemoveImage
    | BuildImage
    | PullImage
    | CreateContainer
    | KeepContainer
    | StartContainer
    | StopContainer
    | RemoveContainer
    | RenameContainer
    | AwaitCondition
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One action, by a ``key`` that no other step has, and the keys of what has to be done before it."""

    key: str
    action: Action
    after: tuple[str, ...] = ()


class Cancellation:
    """That what waits is to give up; ``descriptor`` is readable from then on."""

    def __init__(self) -> None:
        """Nothing is cancelled yet."""
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC)
        self.is_set = False

    def set(self) -> None:
        """Let everything that waits give up."""
        self.is_set = True
        os.eventfd_write(self.descriptor, 1)

    def close(self) -> None:
        """Let the descriptor go."""
        os.close(self.descriptor)


class _Course:
    """How far a number of steps has come; keys that no step has count as done."""

    def __init__(self, steps: Sequence[Step], cancellation: Cancellation) -> None:
        self._keys = {step.key for step in steps}
        self._done: set[str] = set()
        self._cancellation = cancellation
        self.waiting = list(steps)
        self.running: dict[Future[None], Step] = {}
        self.failure: BaseException | None = None

    def ready(self) -> list[Step]:
        """Return the steps that can begin now, which wait no more; none after a failure."""
        if self.failure is not None:
            return []
        found = [step for step in self.waiting if all(self._is_done(key) for key in step.after)]
        self.waiting = [step for step in self.waiting if step not in found]
        return found

    def _is_done(self, key: str) -> bool:
        return key in self._done or key not in self._keys

    def fail(self, error: BaseException) -> None:
        """Let nothing else begin, and what waits give up; the first failure is the one that counts."""
        self.failure = self.failure or error
        self._cancellation.set()

    def settle(self) -> None:
        """Wait until a step has ended, or the user has had enough."""
        try:
            ended, _ = wait(self.running, return_when=FIRST_COMPLETED)
        except KeyboardInterrupt as interrupt:
            self.fail(interrupt)
            return
        for future in ended:
            step, error = self.running.pop(future), future.exception()
            if error is None:
                self._done.add(step.key)
            else:
                self.fail(error)


def carry_out(steps: Sequence[Step], perform: Callable[[Action, Cancellation], None], *, side_by_side: int) -> None:
    """Perform steps, each when those before it are done.

    The first failure lets nothing else begin, has what waits give up, and is raised when what was begun has ended: so
    nothing is left half done. So does Ctrl-C.

    Raises:
        KeyboardInterrupt: by the user.
    """
    cancellation = Cancellation()
    course = _Course(steps, cancellation)
    try:
        with ThreadPoolExecutor(max(side_by_side, 1), "compose") as pool:
            while True:
                for step in course.ready():
                    course.running[pool.submit(perform, step.action, cancellation)] = step
                if not course.running:
                    break
                course.settle()
    finally:
        cancellation.close()
    if course.failure is not None:
        raise course.failure
    assert not course.waiting, f"steps that wait for each other: {[step.key for step in course.waiting]}"
