"""Whole commands as a user waits for them, beside docker's in the same run: the same image, no network.

Each is measured *warm*, where the command server has the imports done, and *cold*, where the command imports by itself.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import console_script
import pytest
from processes import wait_until
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

ROUNDS = 12
BUILD_ROUNDS = 5
SWITCH = "LAB_COMMAND_SERVER"
RUN_LEAST, EXEC_LEAST, BUILD_LEAST = (1.5, 0.5), (0.6, 0.15), (2.5, 1.0)
"""Docker's time over ours, warm and cold; wide, since shared machines are noisy. Usual is 8 and 1.2 for a run, 4
and 0.4 for an exec, 8.7 and 2.7 for a build of three steps."""
DOCKERFILE = "FROM busybox\nRUN echo one > /1\nRUN echo two > /2\nRUN echo three > /3\n"

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """How to call both."""

    lab: tuple[str, ...]
    docker: tuple[str, ...]
    environment: dict[str, str]

    def ratios(self, *words: str, rounds: int = ROUNDS) -> tuple[float, float]:
        """Return how many times longer docker takes than a warm and than a cold command, medians of rounds.

        In each round all three come in turn, so that they meet the same noise.
        """
        ways = ((self.docker, self.environment), (self.lab, self.environment), (self.lab, self.without_server))
        taken = [[self.call(program, words, environment) for program, environment in ways] for _ in range(rounds + 1)]
        pairs = [(docker_s / warm_s, docker_s / cold_s) for docker_s, warm_s, cold_s in taken[1:]]  # all are warm then
        return statistics.median(warm for warm, _ in pairs), statistics.median(cold for _, cold in pairs)

    def call(self, program: tuple[str, ...], words: tuple[str, ...], environment: dict[str, str]) -> float:
        """Return how many seconds a command took."""
        began = time.monotonic()
        subprocess.run((*program, *words), check=True, stdout=subprocess.DEVNULL, env=environment)
        return time.monotonic() - began

    @property
    def without_server(self) -> dict[str, str]:
        """The environment of commands that import by themselves."""
        return {**self.environment, SWITCH: "off"}


@pytest.fixture(scope="module")
def commands() -> Iterator[Commands]:
    """Return both programs with an image each; it takes much longer to have them than to compare them."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as root:
        paths = Paths.under(root)
        store = ImageStore.open(paths)
        bootstrap(store, BaseImage.BUSYBOX, progress=lambda _: None)
        daemon = PrivateDaemon(paths)
        daemon.start()
        docker = ("docker", "-H", f"unix://{daemon.socket}")
        lab = (str(console_script.install(Path(root, "bin"))), "--root", paths.root)
        try:
            archive = os.path.join(root, "busybox.tar")
            store.export_docker_archive("busybox", "busybox:latest", archive)
            subprocess.run((*docker, "load", "-q", "-i", archive), check=True, stdout=subprocess.DEVNULL)
            found = Commands(lab=lab, docker=docker, environment=_with_bytecode(os.path.join(root, "bytecode")))
            found.call(lab, ("ps",), found.environment)
            wait_until(lambda: _has_server(paths))
            yield found
        finally:
            daemon.stop()
            _end_helpers(paths)


def _with_bytecode(directory: str) -> dict[str, str]:
    """An installed program has its bytecode, whatever the environment of the tests says of it."""
    kept = {name: value for name, value in os.environ.items() if name != SWITCH and not name.startswith("PYTHON")}
    return {**kept, "PYTHONPYCACHEPREFIX": directory, "DOCKER_BUILDKIT": "0"}


def _has_server(paths: Paths) -> bool:
    return any(name.startswith("commands") and name.endswith(".sock") for name in os.listdir(paths.run))


def _end_helpers(paths: Paths) -> None:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/cmdline", encoding="utf-8", errors="replace") as file:
                line = file.read()
                if ("main_shared" in line or "lab-command-server" in line) and paths.run in line:
                    os.kill(int(name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


def test_a_run_against_dockers(benchmark: BenchmarkFixture, commands: Commands) -> None:
    words = ("run", "--rm", "--network", "none", "busybox", "true")
    _compare(benchmark, lambda: commands.ratios(*words), least=RUN_LEAST)


def test_an_exec_against_dockers(benchmark: BenchmarkFixture, commands: Commands) -> None:
    words = ("run", "-d", "--name", "stays", "--network", "none", "busybox", "sleep", "1000")
    for program in (commands.lab, commands.docker):
        commands.call(program, words, commands.environment)
    try:
        _compare(benchmark, lambda: commands.ratios("exec", "stays", "true"), least=EXEC_LEAST)
    finally:
        for program in (commands.lab, commands.docker):
            commands.call(program, ("rm", "-f", "stays"), commands.environment)


def test_a_build_without_cache_against_dockers_classic_builder(
    benchmark: BenchmarkFixture, commands: Commands, tmp_path: Path
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text(DOCKERFILE)
    words = ("build", "--no-cache", "-q", "--network", "none", str(context))
    _compare(benchmark, lambda: commands.ratios(*words, rounds=BUILD_ROUNDS), least=BUILD_LEAST)


def _compare(
    benchmark: BenchmarkFixture, measure: Callable[[], tuple[float, float]], *, least: tuple[float, float]
) -> None:
    warm, cold = benchmark.pedantic(measure, rounds=1)
    benchmark.extra_info["docker_to_lab_ratio"] = {"warm": warm, "cold": cold}
    assert warm > least[0]
    assert cold > least[1]
