"""Our own Python on the start path, and a whole start beside the kernel's own cost and crun's in the same run."""

from __future__ import annotations

import itertools
import os
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container import defaults, init_plan, resources, runtime, seccomp_profile
from lab.container.defaults import ContainerConfig
from lab.container.engine import Engine
from lab.container.spawner_client import Stdio
from lab.linux.cgroup import layout
from lab.paths import Paths

ROUNDS = 30
PARENT = f"lab-benchmark-{os.getpid()}"
SLOWEST_RATIO_TO_KERNEL = 4.0
"""Clone to exec, against a C program that does the same; wide, since shared machines are noisy. Usual is below 2."""


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("layer")
    (directory / "bin").mkdir()
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    return str(directory)


def _config(layer: str, name: str) -> ContainerConfig:
    limits = resources.limits(vcpus=1, memory_bytes=64 * 1024 * 1024, pids=64)
    return ContainerConfig(
        id=name, args=("/bin/busybox", "true"), layers=(layer,), cgroup_parent=PARENT, resources=limits
    )


def test_planning_an_init(benchmark: BenchmarkFixture, layer: str) -> None:
    spec = defaults.spec(_config(layer, "x"), "/r", ())
    root = init_plan.OverlayRoot(lower=(layer,), upper="/u", work="/w", target="/r")
    config = init_plan.InitConfig(spec=spec, root=root, cgroup_mounts=runtime.cgroup_mounts(layout.detect()))
    assert len(benchmark(lambda: init_plan.plan(config))) > 40


def test_selecting_the_rules_of_the_default_filter(benchmark: BenchmarkFixture) -> None:
    compiled = benchmark(
        seccomp_profile.compile_profile,
        seccomp_profile.default_profile(),
        frozenset(defaults.CAPABILITIES),
        seccomp_profile.Host.here(),
    )
    assert len(compiled) % 8 == 0


@pytest.fixture
def engine(fresh_paths: Paths) -> Iterator[Engine]:
    with Engine(fresh_paths) as opened:
        yield opened
    found = layout.detect()
    for directory in layout.directories(found, PARENT):
        os.rmdir(directory)


class _Starts:
    """Starts of fresh containers, each to its end; ``child_ns`` is from the clone to the exec."""

    def __init__(self, engine: Engine, layer: str) -> None:
        self._engine = engine
        self._layer = layer
        self._numbers = itertools.count()
        self.child_ns: list[int] = []

    def once(self) -> None:
        name = f"start-{next(self._numbers)}"
        self._engine.create(_config(self._layer, name))
        null = os.open(os.devnull, os.O_RDWR)
        try:
            running = self._engine.start(name, stdio=Stdio(stdin=null, stdout=null, stderr=null))
            self._engine.wait(name)
        finally:
            os.close(null)
            self._engine.delete(name, force=True)
        marks = dict(running.marks_ns)
        self.child_ns.append(marks["userspace"] - marks["spawned"])


def _floor_ns(layer: str, tmp_path: Path) -> float:
    program, filter_path = tmp_path / "floor", tmp_path / "filter.bpf"
    source = Path(__file__).with_name("engine_floor.c")
    subprocess.run(["gcc", "-O2", "-o", program, source], check=True)
    text, host = seccomp_profile.default_profile(), seccomp_profile.Host.here()
    filter_path.write_bytes(seccomp_profile.compile_profile(text, frozenset(defaults.CAPABILITIES), host))
    for name in ("upper", "work", "root"):
        (tmp_path / name).mkdir()
    mounts = [h.mount_point for h in layout.detect().select(layout.TARGET_CONTROLLERS) if h.version == 1]
    argv = [program, str(ROUNDS), layer, tmp_path, filter_path, f"{PARENT}-floor", *mounts]
    lines = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.split()
    return statistics.median(float(line) for line in lines)


@pytest.mark.root
@pytest.mark.needs("root")
@pytest.mark.needs("overlay")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the kernel's floor is measured by a C program: install gcc")
def test_a_start_stays_near_the_kernels_own_cost(
    benchmark: BenchmarkFixture, engine: Engine, layer: str, tmp_path: Path
) -> None:
    starts = _Starts(engine, layer)
    starts.once()
    benchmark.pedantic(starts.once, rounds=ROUNDS)
    floor_ns = _floor_ns(layer, tmp_path)
    ratio = statistics.median(starts.child_ns) / floor_ns
    benchmark.extra_info.update({"kernel_floor_ns": floor_ns, "clone_to_exec_ratio": ratio})
    assert ratio < SLOWEST_RATIO_TO_KERNEL
