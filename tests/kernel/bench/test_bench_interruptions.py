"""Interruptions at every step of a trial, and by a terminal: nothing is left, and a resume makes the run whole.

The harness runs in this process, on real backends whose targets send the signal at a step of our choice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lab.bench import preparation, records, suite_file
from lab.bench.harness import CLOCK, Harness
from lab.bench.interrupts import Interrupts
from lab.bench.model import RunEnd, TrialStatus
from lab.bench.preparation import Prepared
from lab.bench.records import Recorder, Recording
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.protocol import Backend, Target
from lab.target.registry import NAMES
from lab.target.spec import Availability, Command, Execution, Footprint, MarkSink, TargetSpec

pytestmark = [pytest.mark.root, pytest.mark.needs("process"), pytest.mark.needs("container")]

SUITE = """
title = "To be interrupted"
arms = ["process", "container"]
baseline = "process"

[blocks]
warmup = 0
min = 2
max = 2

[[workload]]
use = "noop"
image = "busybox"
parameters = { repeat = 1 }
"""
STEPS = ("provision", "start", "exec", "footprint", "stop", "destroy")


@dataclass
class Interruption:
    """Sends SIGINT ``times`` times at a step of the ``trial``-th target, before and after the step's own work."""

    step: str
    trial: int
    times: int
    targets: list[str] = field(default_factory=list)

    def around(self, step: str) -> contextlib.AbstractContextManager[None]:
        return self._signals() if step == self.step and len(self.targets) == self.trial else contextlib.nullcontext()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        self._send()
        yield
        self._send()

    def _send(self) -> None:
        for _ in range(self.times):
            os.kill(os.getpid(), signal.SIGINT)


class InterruptedTarget:
    def __init__(self, target: Target, interruption: Interruption) -> None:
        self._target = target
        self._interruption = interruption

    @property
    def spec(self) -> TargetSpec:
        return self._target.spec

    def start(self) -> None:
        with self._interruption.around("start"):
            self._target.start()

    def exec(self, command: Command) -> Execution:
        with self._interruption.around("exec"):
            return self._target.exec(command)

    def footprint(self) -> Footprint:
        with self._interruption.around("footprint"):
            return self._target.footprint()

    def stop(self) -> None:
        with self._interruption.around("stop"):
            self._target.stop()

    def destroy(self) -> None:
        with self._interruption.around("destroy"):
            self._target.destroy()


class InterruptedBackend:
    def __init__(self, backend: Backend, interruption: Interruption) -> None:
        self.name = backend.name
        self._backend = backend
        self._interruption = interruption

    def check(self) -> Availability:
        return self._backend.check()

    def provision(self, spec: TargetSpec, marks: MarkSink) -> Target:
        self._interruption.targets.append(spec.name)
        with self._interruption.around("provision"):
            return InterruptedTarget(self._backend.provision(spec, marks), self._interruption)


@pytest.fixture
def prepare(paths: Paths, tmp_path: Path) -> Iterator[Callable[..., Prepared]]:
    suite = tmp_path / "small.toml"
    opened: list[Prepared] = []

    def begin(text: str = SUITE) -> Prepared:
        suite.write_text(text)
        parsed = suite_file.load(str(suite), NAMES)
        directory = str(tmp_path / f"cut-{os.getpid()}")
        opened.append(preparation.begin(parsed, paths, seed=11, directory=directory, clock=CLOCK, tell=lambda _: None))
        return opened[-1]

    yield begin
    for prepared in opened:
        prepared.close()


def measure(prepared: Prepared, earlier: Recording | None = None) -> RunEnd:
    path = os.path.join(prepared.directory, records.RESULTS)
    with Interrupts() as interrupts, Recorder(path) as recorder:
        if earlier is None:
            recorder.append(prepared.run)
        harness = Harness(prepared, recorder, tell=lambda _: None, interrupts=interrupts, earlier=earlier)
        return harness.run()


def interrupted(prepared: Prepared, interruption: Interruption) -> Prepared:
    backends = {name: InterruptedBackend(backend, interruption) for name, backend in prepared.backends.items()}
    return replace(prepared, backends=backends)


def remains(paths: Paths, run_id: str, targets: list[str]) -> list[str]:
    """Return what is left of the targets of a run: cgroups, processes in them, mounts, directories."""
    layout = cgroups.detect()
    found = [*cgroups.directories(layout, f"lab/{run_id}")]
    found += [f"process {pid}" for pid in cgroups.processes(layout, f"lab/{run_id}")]
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        found += [line for line in mounts if any(name in line for name in targets)]
    for directory in (paths.containers, paths.processes):
        with contextlib.suppress(FileNotFoundError):
            found += [name for name in os.listdir(directory) if name in targets]
    return found


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("step", STEPS)
def test_an_interruption_at_any_step_leaves_nothing_and_the_run_can_be_made_whole(
    paths: Paths, prepare: Callable[..., Prepared], step: str, times: int
) -> None:
    prepared = prepare()
    interruption = Interruption(step=step, trial=2, times=times)

    end = measure(interrupted(prepared, interruption))
    cut = records.read(prepared.directory)
    left = remains(paths, prepared.run.id, interruption.targets)
    whole_end = measure(prepared, cut)

    assert end.reason == "interrupted"
    assert len(interruption.targets) == 2
    assert left == []
    assert cut.end == end
    assert [trial.status for trial in cut.trials] == [TrialStatus.OK, TrialStatus.INTERRUPTED]
    whole = records.read(prepared.directory)
    assert whole_end.reason == "blocks"
    assert whole.run == cut.run
    done = [trial for trial in whole.trials if trial.status is not TrialStatus.INTERRUPTED]
    assert [trial.status for trial in done] == [TrialStatus.OK] * 6
    assert [(t.block, t.cell) for t in done] == [(b.number, cell) for b in prepared.plan.blocks for cell in b.cells]


@pytest.mark.parametrize("step", ["provision", "start", "footprint", "stop", "destroy"])
def test_an_interruption_while_instances_come_and_go_leaves_none_of_them(
    paths: Paths, prepare: Callable[..., Prepared], step: str
) -> None:
    prepared = prepare(SUITE.replace('use = "noop"', 'use = "density"').replace("repeat = 1", "instances = 3"))
    third = Interruption(step=step, trial=3, times=2)

    end = measure(interrupted(prepared, third))

    assert end.reason == "interrupted"
    assert len(third.targets) == 3
    assert remains(paths, prepared.run.id, third.targets) == []
    assert [trial.status for trial in records.read(prepared.directory).trials] == [TrialStatus.INTERRUPTED]


def test_a_trial_that_fails_because_of_the_interruption_is_not_taken_for_a_failure(
    paths: Paths, prepare: Callable[..., Prepared]
) -> None:
    prepared = prepare()

    class Refuses(InterruptedBackend):
        def provision(self, spec: TargetSpec, marks: MarkSink) -> Target:
            del spec, marks
            os.kill(os.getpid(), signal.SIGINT)
            raise OSError(4, "interrupted while it was made")

    none = Interruption(step="", trial=0, times=0)
    refusing = {name: Refuses(backend, none) for name, backend in prepared.backends.items()}

    end = measure(replace(prepared, backends=refusing))

    assert end.reason == "interrupted"
    assert [trial.status for trial in records.read(prepared.directory).trials] == [TrialStatus.INTERRUPTED]


def _lab(paths: Paths, *arguments: str) -> tuple[list[str], dict[str, str]]:
    default = Paths.default({}, uid=0).root
    environment = dict(os.environ) if paths.root == default else {**os.environ, "LAB_ROOT": paths.root}
    return [sys.executable, "-m", "lab", *arguments], environment


def test_what_a_killed_session_left_running_is_ended_before_the_next_measures(
    prepare: Callable[..., Prepared],
) -> None:
    prepared = prepare()
    measure(interrupted(prepared, Interruption(step="exec", trial=2, times=1)))
    layout, orphans = cgroups.detect(), f"lab/{prepared.run.id}/lab-of-a-killed-session-1"
    cgroups.create(layout, orphans)
    with subprocess.Popen(["/bin/sleep", "1000"]) as orphan:
        cgroups.attach(layout, orphans, orphan.pid)

        end = measure(prepared, records.read(prepared.directory))

        assert orphan.wait() == -signal.SIGKILL
    assert end.reason == "blocks"
    assert cgroups.directories(layout, orphans) == ()


@pytest.mark.parametrize("trial", [2, 5])
@pytest.mark.parametrize(
    "peer",
    [
        "container",
        pytest.param("runc", marks=pytest.mark.needs("runc")),
        pytest.param("podman", marks=pytest.mark.needs("podman")),
        pytest.param("docker", marks=pytest.mark.needs("docker")),
    ],
)
def test_a_terminals_ctrl_c_does_not_reach_who_removes_a_target(
    paths: Paths, tmp_path: Path, peer: str, trial: int
) -> None:
    suite, run = tmp_path / "small.toml", tmp_path / "run"
    suite.write_text(SUITE)
    argv, environment = _lab(paths, "bench", "run", str(suite), "--targets", peer, "--seed", "11", "--output", str(run))
    with subprocess.Popen(
        argv, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, process_group=0
    ) as process:
        assert process.stderr is not None
        seen = 0
        for line in process.stderr:
            seen += f": noop/{peer}" in line or ": noop/process" in line
            if seen == trial:
                break
        for _ in range(3):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        rest = process.stderr.read()
        assert process.wait() == 130, rest
    assert "Traceback" not in rest
    assert f"lab bench resume {run.name}" in rest
    assert cgroups.directories(cgroups.detect(), f"lab/{run.name}") == ()

    argv, environment = _lab(paths, "bench", "resume", str(run))
    resumed = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)

    assert resumed.returncode == 0, resumed.stderr
    done = [t for t in records.read(str(run)).trials if t.status is not TrialStatus.INTERRUPTED]
    assert [t.status for t in done] == [TrialStatus.OK] * 6, [t.error for t in done]
