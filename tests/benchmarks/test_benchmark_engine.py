"""Our own Python on the start path, and a whole start beside the kernel's own cost and runc's in the same run."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks import floor_script
from pytest_benchmark.fixture import BenchmarkFixture

from lab import container
from lab.container import defaults, init_plan, resources, runtime, seccomp_profile
from lab.container.defaults import ContainerConfig, ContainerNetwork
from lab.container.engine import Engine
from lab.container.spawner_client import Stdio
from lab.linux.cgroup import layout
from lab.paths import Paths
from lab.target.backends import oci_bundle
from lab.target.spec import Command, Limits, TargetSpec

ROUNDS = 30
PARENT = f"lab-benchmark-{os.getpid()}"
SLOWEST_RATIO_TO_KERNEL = 4.0
"""A start against a C program that does the same; wide, since shared machines are noisy. Usual is below 2."""
LEAST_RATIO_TO_RUNC = 2.0
"""A whole life of a container against `runc run`; as wide. Usual is above 5."""


@pytest.fixture(scope="module")
def layer(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = tmp_path_factory.mktemp("layer")
    for name in ("bin", "dev", "proc", "sys"):
        (directory / name).mkdir()
    shutil.copy("/bin/busybox", directory / "bin" / "busybox")
    return str(directory)


def _config(layer: str, name: str, network: ContainerNetwork = ContainerNetwork.NONE) -> ContainerConfig:
    limits = resources.limits(vcpus=1, memory_bytes=64 * 1024 * 1024, pids=64)
    return ContainerConfig(
        id=name,
        args=("/bin/busybox", "true"),
        layers=(layer,),
        cgroup_parent=PARENT,
        resources=limits,
        network=network,
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
        opened.release_network()
    found = layout.detect()
    for directory in layout.directories(found, PARENT):
        os.rmdir(directory)


class _Starts:
    """Starts of fresh containers, each to its end.

    ``start_ns`` are from the call to the exec, ``child_ns`` from clone to exec, ``life_ns`` start, wait and removal.
    """

    def __init__(self, engine: Engine, layer: str, network: ContainerNetwork) -> None:
        self._engine, self._layer, self._network = engine, layer, network
        self._numbers = itertools.count()
        self.start_ns: list[int] = []
        self.child_ns: list[int] = []
        self.life_ns: list[int] = []

    def once(self) -> None:
        name = f"start-{next(self._numbers)}"
        self._engine.create(_config(self._layer, name, self._network))
        null = os.open(os.devnull, os.O_RDWR)
        try:
            called_ns = time.monotonic_ns()
            running = self._engine.start(name, stdio=Stdio(stdin=null, stdout=null, stderr=null))
            self._engine.wait(name)
        finally:
            os.close(null)
            self._engine.delete(name, force=True)
        self.life_ns.append(time.monotonic_ns() - called_ns)
        marks = dict(running.marks_ns)
        self.start_ns.append(marks["userspace"] - called_ns)
        self.child_ns.append(marks["userspace"] - marks["spawned"])


class _Floor:
    """The same starts by a C program that makes the same system calls, in directories and at an address of theirs."""

    def __init__(self, engine: Engine, layer: str, scratch: Path, network: ContainerNetwork) -> None:
        self._engine, self._layer, self._scratch, self._network = engine, layer, scratch, network
        self._program = str(scratch / "floor")
        source = Path(__file__).with_name("engine_floor.c")
        machine = f"-I{Path(container.__file__).parent}"
        subprocess.run(["gcc", "-O2", "-static", "-Wall", "-Werror", machine, "-o", self._program, source], check=True)
        self._numbers = itertools.count()

    def once_ns(self) -> int:
        """Let the program start one container; nanoseconds from its first call to the exec."""
        name = f"floor-{next(self._numbers)}"
        state = self._engine.create(_config(self._layer, name, self._network))
        try:
            with self._engine.leased(state) as attachment:
                script, program = self._scratch / f"{name}.script", self._scratch / f"{name}.program"
                plan = self._engine.runtime.plan_start(state, self._engine.runtime.directory.load_spec(state.id))
                script.write_text(floor_script.script(plan, layout=layout.detect(), attachment=attachment))
                program.write_bytes(floor_script.program(plan))
                argv = (self._program, str(script), str(program))
                return int(subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True).stdout)
        finally:
            self._engine.delete(name, force=True)


@pytest.mark.root
@pytest.mark.needs("root")
@pytest.mark.needs("overlay")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the kernel's floor is measured by a C program: install gcc")
@pytest.mark.parametrize("network", list(ContainerNetwork))
def test_a_start_stays_near_the_kernels_own_cost(
    benchmark: BenchmarkFixture, engine: Engine, layer: str, tmp_path: Path, network: ContainerNetwork
) -> None:
    starts, floor = _Starts(engine, layer, network), _Floor(engine, layer, tmp_path, network)
    starts.once()
    floors_ns: list[int] = []
    # in turn, so that both meet the same noise
    benchmark.pedantic(starts.once, setup=lambda: floors_ns.append(floor.once_ns()), rounds=ROUNDS)
    floor_ns = statistics.median(floors_ns)
    ratios = {
        "start_ratio": statistics.median(starts.start_ns[1:]) / floor_ns,
        "clone_to_exec_ratio": statistics.median(starts.child_ns[1:]) / floor_ns,
    }
    benchmark.extra_info.update({"kernel_floor_ns": floor_ns, **ratios})
    assert ratios["start_ratio"] < SLOWEST_RATIO_TO_KERNEL


class _Runc:
    """`runc run` of the same program in the same layer, with the same limits, filter and masks."""

    def __init__(self, layer: str, bundle: Path, state: Path) -> None:
        name = f"benchmark-{os.getpid()}"
        spec = TargetSpec(
            name=name,
            image="",
            command=Command(argv=("/bin/busybox", "true")),
            limits=Limits(vcpus=1, memory_bytes=64 * 1024 * 1024, pids=64),
            cgroup_parent=PARENT,
        )
        bundle.mkdir()
        document = oci_bundle.document(spec, rootfs=layer, scratch="", netns="")
        (bundle / "config.json").write_text(json.dumps(document))
        self._argv = ("runc", "--root", str(state), "run", "--bundle", str(bundle), name)

    def once_ns(self) -> int:
        """Let runc create, start, await and delete a container; nanoseconds of the whole command."""
        called_ns = time.monotonic_ns()
        subprocess.run(self._argv, check=True, stdin=subprocess.DEVNULL)
        return time.monotonic_ns() - called_ns


@pytest.mark.root
@pytest.mark.needs("root")
@pytest.mark.needs("overlay")
@pytest.mark.needs("runc")
def test_start_wait_and_removal_beside_runc_run(
    benchmark: BenchmarkFixture, engine: Engine, layer: str, tmp_path: Path
) -> None:
    starts, runc = _Starts(engine, layer, ContainerNetwork.NONE), _Runc(layer, tmp_path / "bundle", tmp_path / "state")
    starts.once()
    theirs_ns: list[int] = []
    benchmark.pedantic(starts.once, setup=lambda: theirs_ns.append(runc.once_ns()), rounds=ROUNDS)
    ratio = statistics.median(theirs_ns) / statistics.median(starts.life_ns[1:])
    benchmark.extra_info["runc_ratio"] = ratio
    assert ratio > LEAST_RATIO_TO_RUNC
