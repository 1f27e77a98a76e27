"""The two engines that are compared: a docker daemon of the tests' own, and the lab, with the same image in both."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest
from clients.transcript import Engine
from kernel.api.conftest import Server

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.network import apply
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon


@pytest.fixture(scope="session")
def lab_paths(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Paths]:
    """Return an installation that has our busybox; whatever still runs in it is ended afterwards."""
    paths = Paths.under(str(tmp_path_factory.mktemp("lab")))
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    try:
        yield paths
    finally:
        _remove_all(_lab(paths))
        _end_spawner(paths)
        apply.remove_bridge(paths)


@pytest.fixture(scope="session")
def docker(lab_paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a daemon of the tests' own, which knows our busybox."""
    daemon = PrivateDaemon(Paths.under(str(tmp_path_factory.mktemp("docker"))))
    daemon.start()
    address = f"unix://{daemon.socket}"
    try:
        archive = str(tmp_path_factory.mktemp("archive") / "busybox.tar")
        store = ImageStore.open(lab_paths)
        store.export_docker_archive(store.resolve("busybox").manifest_digest, "busybox", archive)
        subprocess.run(["docker", "-H", address, "load", "-q", "-i", archive], check=True, capture_output=True)
        yield address
    finally:
        daemon.stop()


@pytest.fixture
def engines(docker: str, lab_paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """Return docker and the lab, each with an empty directory to work in; their containers are removed afterwards."""
    pair = (
        Engine(argv=("docker", "-H", docker), directory=str(tmp_path_factory.mktemp("work"))),
        Engine(argv=_lab(lab_paths), directory=str(tmp_path_factory.mktemp("work"))),
    )
    yield pair
    for engine in pair:
        _remove_all(engine.argv)


@pytest.fixture(scope="session")
def served(lab_paths: Paths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return `lab serve` on the installation."""
    server = Server(lab_paths, str(tmp_path_factory.mktemp("served")))
    try:
        yield server
        assert server.errors() == ""
    finally:
        server.end()


@pytest.fixture
def api_engines(
    docker: str, served: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, Engine]]:
    """Return docker's client on docker and on the lab's server, as ``engines`` does."""
    addresses = (docker, f"unix://{served.socket}")
    pair = tuple(
        Engine(argv=("docker", "-H", address), directory=str(tmp_path_factory.mktemp("work"))) for address in addresses
    )
    yield pair[0], pair[1]
    for engine in pair:
        _remove_all(engine.argv)


def _lab(paths: Paths) -> tuple[str, ...]:
    return (sys.executable, "-m", "lab", "--root", paths.root)


def _remove_all(argv: tuple[str, ...]) -> None:
    listed = subprocess.run([*argv, "ps", "-aq"], check=True, capture_output=True, text=True).stdout.split()
    if listed:
        subprocess.run([*argv, "rm", "-f", "-v", *listed], check=True, capture_output=True)
    volumes = subprocess.run([*argv, "volume", "ls", "-q"], check=True, capture_output=True, text=True).stdout.split()
    if volumes:
        subprocess.run([*argv, "volume", "rm", *volumes], check=True, capture_output=True)


def _end_spawner(paths: Paths) -> None:
    """End the shared spawner of this installation, which would wait half a minute for the next command."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
                command = file.read()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if "main_shared" in command and paths.run in command:
            os.kill(int(name), signal.SIGTERM)
