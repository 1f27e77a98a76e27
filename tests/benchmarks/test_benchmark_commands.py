"""`lab run` and `lab exec` as a user waits for them, beside docker's in the same run: the same image, no network."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

ROUNDS = 12
RUN_RATIO_LEAST, EXEC_RATIO_LEAST = 0.5, 0.15
"""Docker's time over ours; wide, since shared machines are noisy. Usual is 1.5 for a run, and 0.4 for an exec, where
the imports of a Python program are nearly all of the time."""

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """How to call both."""

    lab: tuple[str, ...]
    docker: tuple[str, ...]
    environment: dict[str, str]

    def ratio(self, *words: str) -> float:
        """Return how many times longer docker takes, median of pairs in turn, so that both meet the same noise."""
        for program in (self.lab, self.docker):
            self.call(program, words)
        pairs = [(self.call(self.docker, words), self.call(self.lab, words)) for _ in range(ROUNDS)]
        return statistics.median(docker_s / lab_s for docker_s, lab_s in pairs)

    def call(self, program: tuple[str, ...], words: tuple[str, ...]) -> float:
        """Return how many seconds a command took."""
        began = time.monotonic()
        subprocess.run((*program, *words), check=True, stdout=subprocess.DEVNULL, env=self.environment)
        return time.monotonic() - began


@pytest.fixture
def commands(fresh_paths: Paths, tmp_path: Path) -> Iterator[Commands]:
    store = ImageStore.open(fresh_paths)
    bootstrap(store, BaseImage.BUSYBOX, progress=lambda _: None)
    daemon = PrivateDaemon(fresh_paths)
    daemon.start()
    docker = ("docker", "-H", f"unix://{daemon.socket}")
    lab = (sys.executable, "-m", "lab", "--root", fresh_paths.root)
    try:
        store.export_docker_archive("busybox", "busybox:latest", str(tmp_path / "busybox.tar"))
        subprocess.run((*docker, "load", "-q", "-i", tmp_path / "busybox.tar"), check=True, stdout=subprocess.DEVNULL)
        yield Commands(lab=lab, docker=docker, environment=_with_bytecode(str(tmp_path)))
        for program in (lab, docker):
            subprocess.run((*program, "rm", "-f", "stays"), check=True, stdout=subprocess.DEVNULL)
    finally:
        daemon.stop()
        _end_spawner(fresh_paths)


def _with_bytecode(directory: str) -> dict[str, str]:
    """An installed program has its bytecode, whatever the environment of the tests says of it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": directory}


def _end_spawner(paths: Paths) -> None:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
                if "main_shared" in (line := file.read()) and paths.run in line:
                    os.kill(int(name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_a_run_against_dockers(benchmark: BenchmarkFixture, commands: Commands) -> None:
    flags = ("run", "--rm", "--network", "none", "busybox")
    ratio = _once(benchmark, lambda: commands.ratio(*flags, "true"))
    benchmark.extra_info["docker_to_lab_ratio"] = ratio
    assert ratio > RUN_RATIO_LEAST


def test_an_exec_against_dockers(benchmark: BenchmarkFixture, commands: Commands) -> None:
    for program in (commands.lab, commands.docker):
        words = ("run", "-d", "--name", "stays", "--network", "none", "busybox", "sleep", "1000")
        commands.call(program, words)
    ratio = _once(benchmark, lambda: commands.ratio("exec", "stays", "true"))
    benchmark.extra_info["docker_to_lab_ratio"] = ratio
    assert ratio > EXEC_RATIO_LEAST


def _once(benchmark: BenchmarkFixture, measure: Callable[[], float]) -> float:
    ratio: float = benchmark.pedantic(measure, rounds=1)
    return ratio
