"""An installation with a busybox image, a registry beside it, and docker's configuration in a directory of its own."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest
from kernel.containers.conftest import Lab, remove_containers, wait_until
from kernel.registry.servers import registry

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.paths import Paths


@pytest.fixture(scope="session")
def shared_root() -> Iterator[Lab]:
    """Return a root with a busybox image."""
    root = tempfile.mkdtemp(prefix="lab-test-")
    lab = Lab(Paths.under(root))
    bootstrap(ImageStore.open(lab.paths), BaseImage.BUSYBOX, progress=lambda _: None)
    yield lab
    _end(lab)


@pytest.fixture(autouse=True)
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of docker's configuration, which all commands of the test have."""
    directory = tmp_path / "docker-config"
    monkeypatch.setenv("DOCKER_CONFIG", str(directory))
    return directory


@pytest.fixture
def lab(shared_root: Lab) -> Iterator[Lab]:
    """Return the command line of the installation with the image."""
    yield shared_root
    remove_containers(shared_root)


@pytest.fixture
def other() -> Iterator[Lab]:
    """Return the command line of an empty installation."""
    lab = Lab(Paths.under(tempfile.mkdtemp(prefix="lab-test-")))
    os.makedirs(lab.paths.containers)
    yield lab
    remove_containers(lab)
    _end(lab)


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return HOST:PORT of a registry that asks for nothing."""
    with registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


def _end(lab: Lab) -> None:
    for pid in lab.spawners():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lab.spawners())
    rmtree(lab.paths.root)
