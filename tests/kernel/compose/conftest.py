"""A compose project in a directory of its own, of which nothing is left after the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab.container.containers import Containers
from lab.container.network import apply
from lab.container.network.networks import Networks
from lab.container.volumes.store import VolumeStore

from ..containers.conftest import Lab, Outcome, lab_root, remove_containers

__all__ = ["lab_root"]

NAME = "shop"


class Stack:
    """`lab compose` on the files of one directory, which is called ``NAME``."""

    def __init__(self, lab: Lab, directory: Path, environment: Mapping[str, str]) -> None:
        self.lab, self.directory = lab, directory
        self._environment = {**os.environ, **environment}

    def write(self, text: str, name: str = "compose.yaml") -> None:
        (self.directory / name).write_text(text)

    def argv(self, *words: str) -> tuple[str, ...]:
        return self.lab.argv("compose", "--project-directory", str(self.directory), *words)

    def __call__(self, *words: str, data: bytes = b"", environment: Mapping[str, str] | None = None) -> Outcome:
        done = subprocess.run(
            self.argv(*words),
            input=data,
            capture_output=True,
            timeout=60,
            check=False,
            env={**self._environment, **(environment or {})},
        )
        return Outcome(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    def ok(self, *words: str, environment: Mapping[str, str] | None = None) -> str:
        """Run a command that has to succeed, and return its output without the last line's end."""
        done = self(*words, environment=environment)
        assert done.code == 0, (words, done)
        return done.out.removesuffix("\n")

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a command whose streams are pipes."""
        return subprocess.Popen(
            self.argv(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self._environment
        )

    def ids(self) -> dict[str, str]:
        """Return the ids of the project's containers, by name."""
        with Containers(self.lab.paths) as containers:
            return {each.name: each.id for each in containers.all()}

    def statuses(self) -> dict[str, str]:
        """Return docker's words for the state of the project's containers, by name."""
        with Containers(self.lab.paths) as containers:
            return {each.name: each.status for each in containers.all()}

    def left(self) -> list[str]:
        """Return what there is: containers, volumes, networks and files."""
        paths = self.lab.paths
        files = os.path.join(paths.root, "compose", NAME)
        return [
            *self.ids(),
            *(each.name for each in VolumeStore(paths).all()),
            *(each.name for each in Networks(paths).made()),
            *[files] * os.path.exists(files),
        ]


@pytest.fixture(scope="session")
def bytecode(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return an environment in which commands keep what they compile: else that is half of what they do."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path_factory.mktemp("bytecode"))}


@pytest.fixture
def stack(lab_root: Lab, tmp_path: Path, bytecode: dict[str, str]) -> Iterator[Stack]:
    """Return a project without files yet; afterwards `down -v` leaves nothing of it."""
    directory = tmp_path / NAME
    directory.mkdir()
    found = Stack(lab_root, directory, bytecode)
    try:
        yield found
        found.ok("down", "-v", "--remove-orphans")
        assert found.left() == []
    finally:
        remove_containers(lab_root)
        apply.remove_bridge(lab_root.paths)
