"""`lab serve` on a root with a busybox image, shared by all tests here, and docker's clients connected with it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest
from processes import command_lines, parent, wait_until

from lab.container.containers import Containers
from lab.container.engine import Engine
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.network import apply
from lab.paths import Paths

DOCKER = "/usr/bin/docker"
"""Debian's client."""
TIMEOUT_S = 60


class Server:
    """A server on a root, which can be ended and begun again, and killed."""

    def __init__(self, paths: Paths, scratch: str, *flags: str) -> None:
        self.paths, self._flags = paths, flags
        self.socket = os.path.join(scratch, "docker.sock")
        self.environment = {
            **os.environ,
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "0",
            "DOCKER_CONFIG": scratch,
        }
        self.log = os.path.join(scratch, "server.log")
        self.process = self._begin()

    def _begin(self) -> subprocess.Popen[bytes]:
        argv = (sys.executable, "-m", "lab", "--root", self.paths.root, "serve", "--socket", self.socket, *self._flags)
        with open(self.log, "ab") as log:
            process = subprocess.Popen(argv, stdout=log, stderr=log)
        wait_until(lambda: process.poll() is not None or self._answers())
        return process

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.socket) == 0

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Let it end by a signal, and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def begin_again(self) -> None:
        """Begin a new one in its place."""
        self.process = self._begin()

    def supervisors(self) -> list[int]:
        """Return the pids of the root's shared spawners: one, or none; without their children before an exec."""
        mark = f"{self.paths.run!r})".encode()
        found = [pid for pid, line in command_lines() if b"main_shared" in line and mark in line]
        return [pid for pid in found if parent(pid) not in found]

    def supervisor(self) -> int:
        """Return the pid of the one that there is."""
        (pid,) = self.supervisors()
        return pid

    def docker(self, *words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run docker's client; containers get no network unless they ask for one."""
        if words[0] in ("run", "create") and "--network" not in words:
            words = (words[0], "--network", "none", *words[1:])
        argv = (DOCKER, *words)
        return subprocess.run(
            argv, input=data, capture_output=True, timeout=TIMEOUT_S, env=self.environment, check=False
        )

    def ok(self, *words: str, data: bytes = b"") -> str:
        """Run a command that has to succeed, and return its output without the last line's end."""
        done = self.docker(*words, data=data)
        assert done.returncode == 0, (words, done)
        return done.stdout.decode().removesuffix("\n")

    def errors(self) -> str:
        """Return what the server itself has written about its own faults."""
        with open(self.log, encoding="utf-8") as log:
            return "".join(line for line in log if not line.startswith("serving"))


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Server]:
    root, scratch = (tempfile.mkdtemp(prefix="lab-test-") for _ in range(2))
    paths = Paths.under(root)
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    with Engine(paths) as engine:  # builds leave it behind, for the next one
        engine.ensure_bridge()
    server = Server(paths, scratch)
    yield server
    server.end()
    for pid in server.supervisors():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.supervisors())
    apply.remove_bridge(paths)
    shutil.rmtree(scratch)
    shutil.rmtree(root)


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """Return the server; every container of the test is removed, and it has met no fault of its own."""
    if shared_server.process.poll() is not None:
        shared_server.begin_again()
    yield shared_server
    with Containers(shared_server.paths) as containers:
        for container_id in containers.engine.directory.ids():
            containers.remove(container_id, force=True)
    assert shared_server.errors() == ""
