"""The probes on real processes: what may not be read, and who spends the CPU time of a start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.bench import records
from lab.bench.model import Trial
from lab.bench.probes import footprint
from lab.paths import Paths

pytestmark = [pytest.mark.root]

SUITE = """
title = "CPU time"
arms = ["process"]
baseline = "process"

[blocks]
warmup = 0
min = 1
max = 1

[[workload]]
use = "startup"
image = "busybox"
parameters = { memory = false }
"""


def test_a_process_that_may_not_be_read_leaves_no_sum_without_it() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setresuid(65534, 65534, 65534)
            found = footprint.process_views((os.getpid(), 1))
            os.write(writer, f"{dict(found.views)} {found.unread}".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with open(reader, encoding="ascii") as said:
        text = said.read()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert text == "{} 1"


@pytest.mark.needs("process")
@pytest.mark.needs("container")
@pytest.mark.parametrize(
    ("arm", "spenders"),
    [
        ("container", {"payload", "daemons", "harness"}),
        pytest.param("runc", {"payload", "helpers", "harness"}, marks=pytest.mark.needs("runc")),
        pytest.param("podman", {"payload", "helpers", "harness"}, marks=pytest.mark.needs("podman")),
        pytest.param("docker", {"payload", "helpers", "daemons", "harness"}, marks=pytest.mark.needs("docker")),
    ],
)
def test_the_cpu_time_of_a_start_holds_all_who_worked_for_it(
    paths: Paths, tmp_path: Path, arm: str, spenders: set[str]
) -> None:
    suite, run = tmp_path / "cpu.toml", tmp_path / "run"
    suite.write_text(SUITE)
    default = Paths.default({}, uid=0).root
    environment = dict(os.environ) if paths.root == default else {**os.environ, "LAB_ROOT": paths.root}
    argv = [sys.executable, "-m", "lab", "bench", "run", str(suite), "--targets", arm, "--output", str(run)]
    subprocess.run(argv, env=environment, capture_output=True, check=True)

    trials = {trial.cell.key: trial for trial in records.read(str(run)).trials}
    spent = parts(trials[f"startup/{arm}"])

    assert {part for part, value in spent.items() if value > 0} >= spenders
    assert sum(spent.values()) == value_of(trials[f"startup/{arm}"], "startup_cpu")
    if "helpers" in spenders:
        assert spent["helpers"] + spent["daemons"] > 5_000_000
    assert parts(trials["startup/process"])["helpers"] == 0


def parts(trial: Trial) -> dict[str, float]:
    return {sample.labels["part"]: sample.value for sample in trial.samples if sample.metric == "startup_cpu_part"}


def value_of(trial: Trial, metric: str) -> float:
    return next(sample.value for sample in trial.samples if sample.metric == metric)
