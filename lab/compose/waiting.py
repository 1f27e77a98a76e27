"""Waiting until containers are what others need: by the events of the root, without asking again and again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lab.compose.model import Condition
from lab.compose.steps import Cancellation
from lab.container import health, inspection
from lab.container.containers import Container, Containers
from lab.container.event_stream import EventFile
from lab.container.options import health as options
from lab.errors import ContainerError, StateConflict, WaitCancelled
from lab.units import NS_PER_S

Met = Callable[[Container], bool]


def until(
    containers: Containers,
    names: Sequence[str],
    met: Met,
    cancellation: Cancellation,
    *,
    timeout_s: int | None = None,
) -> None:
    """Return when all containers of these names are what ``met`` wants.

    Raises:
        ContainerError: whatever ``met`` raises of one that never will be.
        WaitCancelled: the waiting was.
        StateConflict: the time is over.
    """
    until_ns = None if timeout_s is None else time.time_ns() + timeout_s * NS_PER_S
    with EventFile(containers.paths.run, only_new=True) as file:
        left = _left(containers, names, met)
        for event in file.follow(until_ns, cancellation.descriptor) if left else ():
            if event.kind == "container":
                left = _left(containers, left, met)
            if not left:
                break
    if left and cancellation.is_set:
        raise WaitCancelled(f"nobody waits for {', '.join(left)} any more")
    if left:
        raise StateConflict(f"application not healthy after {timeout_s}s: {', '.join(left)}")


def _left(containers: Containers, names: Sequence[str], met: Met) -> list[str]:
    return [name for name in names if not met(containers.get(name))]


def condition(wanted: Condition | None, service: str) -> Met:
    """Return what tells whether a container is what another one needs; None: healthy where there is a check."""
    if wanted == Condition.COMPLETED:
        return lambda container: _has_completed(container, service)
    if wanted == Condition.STARTED:
        return lambda _: True
    return lambda container: _is_healthy(container, needs_check=wanted is not None)


def _has_completed(container: Container, service: str) -> bool:
    if container.status != "exited":
        return False
    if container.exit_code:
        raise ContainerError(f'service "{service}" didn\'t complete successfully: exit {container.exit_code}')
    return True


def _first_health(container: Container) -> str:
    """Return the health of a container that nobody has looked at yet: "starting", or "" without a check."""
    record = container.record
    wanted = options.effective(record.options.healthcheck, record.image.healthcheck)
    return health.STARTING if options.plan(wanted, record.image.shell) is not None else ""


def _is_healthy(container: Container, *, needs_check: bool) -> bool:
    if container.status == "exited":
        raise ContainerError(
            f"dependency failed to start: container {container.name} exited ({container.exit_code})"
            if needs_check
            else f"container {container.name} exited ({container.exit_code})",
            hint=f"lab logs {container.name}",
        )
    found = inspection.health_status(container) or _first_health(container)
    if found == health.UNHEALTHY:
        start = "dependency failed to start: " if needs_check else ""
        raise ContainerError(f"{start}container {container.name} is unhealthy", hint=f"lab logs {container.name}")
    if not found and container.is_running:
        if needs_check:
            raise ContainerError(
                f"dependency failed to start: container {container.name} has no healthcheck configured"
            )
        return True
    return found == health.HEALTHY and container.is_running
