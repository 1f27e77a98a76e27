"""Programs that are executed in containers, as the API knows them: one file each in the container's directory.

    containers/<id>/executions/<execution>     what was asked for, and what became of it

The id of an execution begins with that of its container, so that it is found without a look at any other.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from lab.api.refusals import NoSuchPath
from lab.container.containers import Container, Containers
from lab.container.event_stream import EventFile
from lab.container.storage import durable
from lab.errors import NoSuchContainer

_DIRECTORY = "executions"
_PREFIX, _OWN_BYTES = 32, 16
_LOST = 255  # nobody saw its end


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution; ``pid`` is 0 before its start, ``exit_code`` None before its end."""

    id: str
    container: str
    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = ""
    user: str = ""
    privileged: bool = False
    terminal: bool = False
    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    detach_keys: str = ""
    pid: int = 0
    exit_code: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it has been started, or could not be."""
        return bool(self.pid) or self.exit_code is not None

    def document(self) -> dict[str, object]:
        """Return docker's JSON object."""
        return {
            "ID": self.id,
            "Running": bool(self.pid) and self.exit_code is None,
            "ExitCode": self.exit_code,
            "ProcessConfig": {
                "tty": self.terminal,
                "entrypoint": self.args[0],
                "arguments": list(self.args[1:]),
                "privileged": self.privileged,
                **({"user": self.user} if self.user else {}),
            },
            "OpenStdin": self.stdin,
            "OpenStderr": self.stderr,
            "OpenStdout": self.stdout,
            "CanRemove": False,
            "ContainerID": self.container,
            "DetachKeys": self.detach_keys,
            "Pid": self.pid,
        }


def new_id(container: Container) -> str:
    """Return the id of an execution in a container."""
    return container.id[:_PREFIX] + secrets.token_hex(_OWN_BYTES)


def save(containers: Containers, execution: Execution) -> None:
    """Keep an execution as it is now.

    Raises:
        OSError: it cannot be written, since its container has been removed or the disk is full.
    """
    directory = os.path.join(containers.engine.directory.bundle(execution.container), _DIRECTORY)
    with contextlib.suppress(FileExistsError):
        os.mkdir(directory, 0o700)
    durable.write_atomically(os.path.join(directory, execution.id), json.dumps(asdict(execution)).encode(), mode=0o600)


def load(containers: Containers, execution_id: str) -> Execution:
    """Return an execution as it is now.

    Raises:
        NoSuchPath: there is none.
    """
    try:
        container_id = containers.find(execution_id[:_PREFIX])
        path = os.path.join(
            containers.engine.directory.bundle(container_id), _DIRECTORY, os.path.basename(execution_id)
        )
        with open(path, "rb") as file:
            found = _decoded(json.load(file))
    except (NoSuchContainer, FileNotFoundError, IsADirectoryError):
        raise NoSuchPath(f"No such exec instance: {execution_id}") from None
    if found.pid and found.exit_code is None and not os.path.exists(f"/proc/{found.pid}"):
        return replace(found, exit_code=_told(containers, found))  # who was to note it has gone
    return found


def _decoded(fields: Mapping[str, object]) -> Execution:
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    return Execution(**given)  # type: ignore[arg-type] # they are its own fields, as ``save`` has written them


def _told(containers: Containers, execution: Execution) -> int:
    """Return the exit code that the events tell of an execution."""
    code = _LOST
    with EventFile(containers.paths.run) as file:
        for event in file.read():
            if event.action == "exec_die" and event.attributes.get("execID") == execution.id:
                code = int(event.attributes.get("exitCode", code))
    return code
