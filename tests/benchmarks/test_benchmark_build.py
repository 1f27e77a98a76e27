"""Three RUN steps without cache beside docker's classic builder, in turns, in one run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container.defaults import ContainerNetwork
from lab.container.engine import Engine
from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.build import BuildRequest, build
from lab.container.image.build_context import ContextSource
from lab.container.image.build_progress import StepTitle
from lab.container.image.build_run import Surroundings
from lab.container.image.store import ImageStore
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

DOCKERFILE = "FROM busybox\nRUN echo one > /one\nRUN echo two > /two\nRUN echo three > /three\n"
ROUNDS = 7
LEAST_RATIO = 3.0
"""Wide, since shared machines are noisy; usual is between 5 and 10."""

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("context")
    (directory / "Dockerfile").write_text(DOCKERFILE)
    return str(directory)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    paths = Paths.under(str(tmp_path_factory.mktemp("root")))
    bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
    return paths


@pytest.fixture(scope="module")
def docker(root: Paths, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    daemon = PrivateDaemon(Paths.under(str(tmp_path_factory.mktemp("docker"))))
    daemon.start()
    try:
        archive = str(tmp_path_factory.mktemp("archive") / "busybox.tar")
        ImageStore.open(root).export_docker_archive("busybox", "busybox", archive)
        subprocess.run(["docker", "-H", f"unix://{daemon.socket}", "load", "-q", "-i", archive], check=True)
        yield f"unix://{daemon.socket}"
    finally:
        daemon.stop()


class _Silent:
    def started(self, step: StepTitle) -> None: ...
    def wrote(self, step: StepTitle, data: bytes) -> None: ...
    def finished(self, step: StepTitle, *, cached: bool) -> None: ...
    def failed(self, step: StepTitle, reason: str) -> None: ...
    def noted(self, text: str) -> None: ...


@pytest.mark.needs("docker")
def test_three_steps_beside_docker(benchmark: BenchmarkFixture, root: Paths, docker: str, context: str) -> None:
    """Docker's builder is warm in its daemon, ours in this process; the whole command is told beside them."""
    flags = ["build", "--no-cache", "--network=none", "-q", "-t", "three", context]
    theirs = _timed(["docker", "-H", docker, *flags])
    command = _timed([sys.executable, "-m", "lab", "--root", root.root, *flags])
    docker_s: list[float] = []
    with Engine(root) as engine:
        _build(root, engine, context)
        command()
        # in turn, so that both meet the same noise
        benchmark.pedantic(
            _build,
            args=(root, engine, context),
            setup=lambda: docker_s.append(theirs()),
            rounds=ROUNDS,
            warmup_rounds=1,
        )
    ours_s = benchmark.stats.stats.median
    ratio = statistics.median(docker_s) / ours_s
    benchmark.extra_info.update(docker_s=statistics.median(docker_s), ratio=ratio, command_s=command())
    assert ratio > LEAST_RATIO


def _build(root: Paths, engine: Engine, context: str) -> None:
    request = BuildRequest(
        context=ContextSource(location=context),
        names=("three",),
        use_cache=False,
        surroundings=Surroundings(network=ContainerNetwork.NONE),
    )
    assert len(build(root, engine, request, _Silent()).layers) == 4


def _timed(argv: list[str]) -> Callable[[], float]:
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}

    def once() -> float:
        began = time.perf_counter()
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=120)
        return time.perf_counter() - began

    return once
