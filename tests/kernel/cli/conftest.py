"""The console script on a root of its own, with the command server that it starts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import console_script
import pytest
from processes import command_lines, parent, wait_until

from lab.container.containers import Containers
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.paths import Paths

SWITCH = "LAB_COMMAND_SERVER"
TIMEOUT_S = 60


class Script:
    """`lab --root`: what is asked of it, and the servers that it has."""

    def __init__(self, program: Path, paths: Paths) -> None:
        self.program = program
        self.paths = paths

    def argv(self, *words: str) -> tuple[str, ...]:
        if words[0] == "run":
            words = ("run", "--network", "none", *words[1:])
        return (str(self.program), "--root", self.paths.root, *words)

    def __call__(self, *words: str, **how: object) -> subprocess.CompletedProcess[str]:
        wanted = {"capture_output": True, "text": True, "timeout": TIMEOUT_S, "env": environment(), **how}
        return subprocess.run(self.argv(*words), check=False, **wanted)  # type: ignore[call-overload,no-any-return]

    def begin(self, *words: str, **how: object) -> subprocess.Popen[bytes]:
        """Start a command; its streams are pipes unless said otherwise."""
        pipe = subprocess.PIPE
        wanted = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "env": environment(), **how}
        return subprocess.Popen(self.argv(*words), **wanted)  # type: ignore[call-overload,no-any-return] # by name

    def servers(self) -> list[int]:
        """Return the pids of this root's command servers, without their workers."""
        mark = f"\0{self.paths.run}\0".encode()
        found = [pid for pid, line in command_lines() if b"lab-command-server" in line and mark in line]
        return [pid for pid in found if parent(pid) not in found]

    def workers(self) -> list[int]:
        """Return the pids of the commands that servers carry out now; a worker that waits for one is at "/"."""
        servers = self.servers()
        return [pid for pid, _ in command_lines() if parent(pid) in servers and _directory(pid) != "/"]

    def sockets(self) -> list[str]:
        return [name for name in os.listdir(self.paths.run) if name.endswith(".sock") and name.startswith("commands")]

    def await_server(self) -> int:
        """Return the pid of the one server, once it answers; the first command has started it."""
        self("ps")
        wait_until(self.sockets)
        (server,) = self.servers()
        return server


def environment(**more: str) -> dict[str, str]:
    """Return this environment without what has commands carried out in their own process."""
    kept = {name: value for name, value in os.environ.items() if name != SWITCH and not name.startswith("PYTHON")}
    return {**kept, **more}


def _directory(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return "/"


def _end(lab: Script) -> None:
    with Containers(lab.paths) as containers:
        for container_id in containers.engine.directory.ids():
            containers.remove(container_id, force=True)
    spawners = [pid for pid, line in command_lines() if b"main_shared" in line and lab.paths.run.encode() in line]
    for pid in (*lab.servers(), *spawners):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lab.servers())


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console script as it is installed where there is a compiler."""
    return console_script.install(tmp_path_factory.mktemp("bin"))


@pytest.fixture
def lab(installed: Path) -> Iterator[Script]:
    """Return the script on a root with a busybox image."""
    root = tempfile.mkdtemp(prefix="lab-test-")
    paths = Paths.under(root)
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    script = Script(installed, paths)
    yield script
    _end(script)
    shutil.rmtree(root)
