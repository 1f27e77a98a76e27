"""The command line on a root of its own, for tests that use it as its users do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from processes import command_lines, parent, wait_until

from lab.container.containers import Container, Containers
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.log_file import LOG_FILE
from lab.errors import NoSuchContainer
from lab.paths import Paths

TIMEOUT_S = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str


class Lab:
    """`lab --root`: a command in, its outcome out; containers get no network unless they ask for one."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def argv(self, *words: str) -> tuple[str, ...]:
        if words[0] in ("run", "create") and "--network" not in words:
            words = (words[0], "--network", "none", *words[1:])
        return (sys.executable, "-m", "lab", "--root", self.paths.root, *words)

    def __call__(self, *words: str, data: bytes = b"", timeout_s: float = TIMEOUT_S) -> Outcome:
        done = subprocess.run(self.argv(*words), input=data, capture_output=True, timeout=timeout_s, check=False)
        return Outcome(code=done.returncode, out=done.stdout.decode(), err=done.stderr.decode())

    def ok(self, *words: str, data: bytes = b"") -> str:
        """Run a command that has to succeed, and return its output without the last line's end."""
        done = self(*words, data=data)
        assert done.code == 0, (words, done)
        return done.out.removesuffix("\n")

    def begin(self, *words: str, **streams: int | None) -> subprocess.Popen[bytes]:
        """Start a command; its streams are pipes unless said otherwise."""
        wanted = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **streams}
        return subprocess.Popen(self.argv(*words), **wanted)  # type: ignore[call-overload,no-any-return] # by name

    def get(self, reference: str) -> Container:
        with Containers(self.paths) as containers:
            return containers.get(reference)

    def ids(self) -> list[str]:
        with Containers(self.paths) as containers:
            return [container.id for container in containers.all()]

    def log(self, reference: str) -> bytes:
        """Return what a container has written, both streams in one, as its log has it; nothing before it is there."""
        try:
            with open(os.path.join(self.get(reference).state.bundle, LOG_FILE), "rb") as file:
                entries = [line.split(b" ", 3) for line in file.read().split(b"\n")[:-1]]
        except (FileNotFoundError, NoSuchContainer):
            return b""
        return b"".join(text + (b"\n" if tag == b"F" else b"") for _, _, tag, text in entries)

    def spawners(self) -> list[int]:
        """Return the pids of this root's shared spawners: one, or none; without their children before an exec."""
        mark = f"{self.paths.run!r})".encode()
        found = [pid for pid, line in command_lines() if b"main_shared" in line and mark in line]
        return [pid for pid in found if parent(pid) not in found]

    def end_spawners(self) -> None:
        """Kill this root's spawners, and wait until they are gone."""
        for pid in self.spawners():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.spawners())

    def aftermaths(self) -> list[int]:
        """Return the pids of what the shared spawner has started beside containers."""
        mark = self.paths.run.encode()
        return [pid for pid, line in command_lines() if b"aftermath" in line and mark in line.split(b"\0")]


@pytest.fixture(scope="session")
def lab_root() -> Iterator[Lab]:
    """Return a root with a busybox image."""
    root = tempfile.mkdtemp(prefix="lab-test-")
    paths = Paths.under(root)
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    lab = Lab(paths)
    yield lab
    lab.end_spawners()
    shutil.rmtree(root)


@pytest.fixture
def lab(lab_root: Lab) -> Iterator[Lab]:
    """Return the command line; every container of the test is removed, and nothing of one is left."""
    yield lab_root
    remove_containers(lab_root)


def remove_containers(lab: Lab) -> None:
    """Remove every container of a test, and see that nothing of one is left."""
    with Containers(lab.paths) as containers:
        for container_id in containers.engine.directory.ids():
            containers.remove(container_id, force=True)
    wait_until(lambda: not lab.aftermaths())
    made = os.listdir(lab.paths.containers) if os.path.isdir(lab.paths.containers) else []
    assert [name for name in made if name != ".names"] == []
    names = os.path.join(lab.paths.containers, ".names")
    for name in os.listdir(names) if os.path.isdir(names) else ():  # of commands that a test has killed
        os.unlink(os.path.join(names, name))
