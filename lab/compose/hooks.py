"""`post_start` and `pre_stop`: commands that are run in a container after its start and before its stop."""

from __future__ import annotations

import os

from lab.compose.model import Hook
from lab.container.containers import Container, Containers
from lab.container.spawner_client import Stdio
from lab.errors import ContainerError


def run(containers: Containers, container: Container, hook: Hook) -> None:
    """Run a hook's command to its end.

    Raises:
        StartFailed: it could not be executed.
        ContainerError: it failed.
    """
    process = containers.process(
        container,
        hook.command,
        env=tuple(f"{name}={value}" for name, value in hook.environment.items() if value is not None),
        cwd=hook.working_dir,
        user=hook.user,
        privileged=hook.privileged,
    )
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        running = containers.engine.exec(container.id, process, stdio=Stdio(stdin=null, stdout=null, stderr=null))
    finally:
        os.close(null)
    code = running.wait()
    running.close()
    if code:
        raise ContainerError(f"hook {' '.join(hook.command)} of container {container.name} exited with {code}")
