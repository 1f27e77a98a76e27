"""Real runs on real arms: interrupted, resumed, failed, and refused; each leaves nothing but its own directory."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lab.bench import export, records, summary
from lab.bench.model import RunEnd, Trial, TrialKind, TrialStatus
from lab.paths import Paths
from lab.target.spec import MarkName

pytestmark = [pytest.mark.root, pytest.mark.needs("process"), pytest.mark.needs("container")]

SUITE = """
title = "A small one"
question = "Does the harness work?"
arms = ["process", "container"]
baseline = "process"

[blocks]
warmup = 1
min = 3
max = 3
budget = "10m"

[[workload]]
use = "startup"
image = "busybox"

[[workload]]
use = "noop"
image = "busybox"
"""
# the image has no fio
FAILING = SUITE.replace('use = "noop"', 'use = "disk"')


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(SUITE)
    return path


def lab(paths: Paths, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_argv(arguments), env=_environment(paths), capture_output=True, text=True, check=False)


def _argv(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "lab", *arguments]


def _environment(paths: Paths) -> dict[str, str]:
    default = Paths.default({}, uid=0).root
    return dict(os.environ) if paths.root == default else {**os.environ, "LAB_ROOT": paths.root}


def cells(recording: records.Recording) -> list[tuple[int, int, str]]:
    done = [trial for trial in recording.trials if trial.status is not TrialStatus.INTERRUPTED]
    return [(trial.block, trial.position, trial.cell.key) for trial in done]


def test_a_run_records_every_trial_with_phases_that_add_up(paths: Paths, suite: Path, tmp_path: Path) -> None:
    done = lab(paths, "bench", "run", str(suite), "--seed", "7", "--output", str(tmp_path / "run"))

    assert done.returncode == 0, done.stderr
    recording = records.read(str(tmp_path / "run"))
    # 2 workloads on 2 arms and a twin each, in a warm-up block and 3 measured ones
    assert len(recording.trials) == 4 * 6
    assert recording.end is not None
    assert recording.end.reason == "blocks"
    assert {trial.status for trial in recording.trials} == {TrialStatus.OK}
    for trial in recording.trials:
        stamps = list(trial.marks_ns.values())
        assert stamps == sorted(stamps)
        total = next(sample.value for sample in trial.samples if sample.metric == "startup_wall")
        assert total == trial.marks_ns[MarkName.READY] - trial.marks_ns[MarkName.REQUESTED]
        until_ready = stamps[: list(trial.marks_ns).index(MarkName.READY) + 1]
        assert sum(b - a for a, b in itertools.pairwise(until_ready)) == total
    container = next(trial for trial in recording.trials if trial.cell.arm == "container")
    assert {MarkName.NAMESPACES, MarkName.ENVIRONMENT, MarkName.USERSPACE} <= set(container.marks_ns)


def test_the_memory_views_of_a_container_are_all_there(paths: Paths, suite: Path, tmp_path: Path) -> None:
    lab(paths, "bench", "run", str(suite), "--blocks", "1", "--output", str(tmp_path / "run"))

    trials = records.read(str(tmp_path / "run")).trials
    trial = next(trial for trial in trials if trial.cell.key == "startup/container")
    views = {sample.labels["view"]: sample.value for sample in trial.samples if sample.metric == "memory"}
    assert {"pss", "pss_anon", "pss_file", "uss", "rss", "cgroup", "cgroup_working_set"} <= set(views)
    assert 0 < views["uss"] <= views["pss"] <= views["rss"]


def test_each_further_instance_has_a_slope_in_every_view(paths: Paths, tmp_path: Path) -> None:
    path, directory = tmp_path / "density.toml", tmp_path / "run"
    path.write_text(SUITE.replace('use = "noop"', 'use = "density"'))

    done = lab(paths, "bench", "run", str(path), "--blocks", "1", "--output", str(directory))

    assert done.returncode == 0, done.stderr
    trials = [trial for trial in records.read(str(directory)).trials if trial.cell.workload == "density"]
    assert {trial.status for trial in trials} == {TrialStatus.OK}
    for trial in trials:
        slopes = {s.labels["view"]: s.value for s in trial.samples if s.metric == "density_slope"}
        assert set(slopes) == {"host_available", "pss", "cgroup"}
        assert 0 < slopes["pss"] < 16 << 20
        assert [s.value for s in trial.samples if s.metric == "density_instances"] == [4]


@pytest.mark.needs("iperf3")
def test_requests_and_throughput_are_measured_from_host_to_instance(paths: Paths, tmp_path: Path) -> None:
    path, directory = tmp_path / "network.toml", tmp_path / "run"
    path.write_text(SUITE.replace('use = "noop"\nimage = "busybox"', 'use = "network"\nimage = "debian-workloads"'))

    done = lab(paths, "bench", "run", str(path), "--blocks", "1", "--output", str(directory))

    assert done.returncode == 0, done.stderr
    trials = [trial for trial in records.read(str(directory)).trials if trial.cell.workload == "network"]
    assert [trial.error for trial in trials] == [""] * 6
    for trial in trials:
        names = [sample.metric for sample in trial.samples]
        assert names.count("request_latency") == 250
        assert names.count("network_rate") == 2


def test_an_interrupted_run_goes_on_in_the_same_order(paths: Paths, suite: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    lab(paths, "bench", "run", str(suite), "--seed", "42", "--output", str(whole))
    _interrupt_after(paths, suite, cut, trials=5)
    interrupted = records.read(str(cut))

    done = lab(paths, "bench", "resume", str(cut))

    assert interrupted.end is not None
    assert interrupted.end.reason == "interrupted"
    assert done.returncode == 0, done.stderr
    assert cells(records.read(str(cut))) == cells(records.read(str(whole)))
    assert records.read(str(cut)).run == interrupted.run


def _interrupt_after(paths: Paths, suite: Path, directory: Path, *, trials: int) -> None:
    argv = _argv(("bench", "run", str(suite), "--seed", "42", "--output", str(directory)))
    with subprocess.Popen(argv, env=_environment(paths), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if f"trial {trials}/" in line:
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
        assert process.wait() == 130, rest
        assert "resume" in rest
        assert "Traceback" not in rest


def test_a_run_that_was_killed_goes_on(paths: Paths, suite: Path, tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    argv = _argv(("bench", "run", str(suite), "--seed", "3", "--output", str(directory)))
    with subprocess.Popen(argv, env=_environment(paths), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "trial 4/" in line:
                (measuring,) = psutil.Process(process.pid).children()
                measuring.kill()
                break
        assert "the measuring process was ended by SIGKILL" in process.stderr.read()
        assert process.wait() == 128 + signal.SIGKILL
    with (directory / records.RESULTS).open("ab") as file:
        file.write(b'{"type":"trial","cell":{"wor')

    done = lab(paths, "bench", "resume", str(directory))

    assert done.returncode == 0, done.stderr
    recording = records.read(str(directory))
    assert len(cells(recording)) == 24
    assert [trial.kind for trial in recording.trials].count(TrialKind.WARMUP) == 6


def test_a_run_whose_terminal_is_gone_ends_well(paths: Paths, suite: Path, tmp_path: Path) -> None:
    directory = tmp_path / "orphan"
    argv = _argv(("bench", "run", str(suite), "--seed", "3", "--output", str(directory)))
    with subprocess.Popen(argv, env=_environment(paths), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "trial 4/" in line:
                process.kill()
                break
        process.stderr.read()  # to its end: until the process that measures has closed it

    end = records.read(str(directory)).end
    assert end is not None
    assert end.reason == "interrupted"


def test_a_failing_workload_is_a_record_with_its_reason(paths: Paths, tmp_path: Path) -> None:
    path = tmp_path / "failing.toml"
    path.write_text(FAILING)

    done = lab(paths, "bench", "run", str(path), "--blocks", "1", "--output", str(tmp_path / "run"))

    assert done.returncode == 0, done.stderr
    failed = [t for t in records.read(str(tmp_path / "run")).trials if t.status is TrialStatus.FAILED]
    assert {trial.cell.workload for trial in failed} == {"disk"}
    assert all("fio" in trial.error for trial in failed)


def test_a_cell_that_always_fails_is_given_up_and_stays_so_after_a_resume(paths: Paths, tmp_path: Path) -> None:
    path = tmp_path / "failing.toml"
    path.write_text(FAILING.replace("min = 3", "min = 5").replace("max = 3", "max = 5"))
    directory = tmp_path / "run"

    done = lab(paths, "bench", "run", str(path), "--output", str(directory))
    whole = records.read(str(directory))
    _cut_after(directory, block=3)
    resumed = lab(paths, "bench", "resume", str(directory))

    assert done.returncode == 0, done.stderr
    assert "disk/container is given up for the rest of this run: it failed 3 times in a row" in done.stderr
    assert {record.cell.key for record in whole.given_up} == {"disk/process", "disk/process+twin", "disk/container"}
    assert all("fio" in record.reason for record in whole.given_up)
    assert [trial.cell.workload for trial in whole.trials].count("disk") == 3 * 3
    assert whole.end is not None
    assert (whole.end.reason, whole.end.blocks) == ("blocks", 5)
    assert resumed.returncode == 0, resumed.stderr
    assert cells(records.read(str(directory))) == cells(whole)
    assert records.read(str(directory)).given_up == whole.given_up


def test_a_run_ends_when_every_cell_has_been_given_up(paths: Paths, tmp_path: Path) -> None:
    path = tmp_path / "hopeless.toml"
    path.write_text(FAILING.replace('use = "startup"', 'use = "disk"\nname = "first"').replace("max = 3", "max = 9"))

    done = lab(paths, "bench", "run", str(path), "--output", str(tmp_path / "run"))

    recording = records.read(str(tmp_path / "run"))
    assert done.returncode == 1
    assert "nothing is left to measure" in done.stderr
    assert recording.end is not None
    assert recording.end.reason == "given-up"
    assert len(recording.trials) == 3 * 6


def test_the_budget_goes_on_where_a_killed_run_left_it(paths: Paths, suite: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    lab(paths, "bench", "run", str(suite), "--output", str(directory))
    taken = records.read(str(directory)).elapsed_ns
    _cut_after(directory, block=1, elapsed_ns=11 * 60 * 10**9)  # the suite's budget is 10 minutes

    done = lab(paths, "bench", "resume", str(directory))

    recording = records.read(str(directory))
    assert taken > 0
    assert done.returncode == 0, done.stderr
    assert recording.end is not None
    assert recording.end.reason == "budget"
    assert recording.end.elapsed_ns > 11 * 60 * 10**9
    assert {trial.block for trial in recording.trials} == {0, 1}


def _cut_after(directory: Path, *, block: int, elapsed_ns: int | None = None) -> None:
    """Leave of a run what a kill at the end of ``block`` leaves, there having taken ``elapsed_ns`` if that is given."""
    results = directory / records.RESULTS
    kept = []
    for line in results.read_bytes().splitlines(keepends=True):
        record = records.from_line(line)
        if isinstance(record, RunEnd) or (isinstance(record, Trial) and record.block > block):
            break
        kept.append(line)
        if isinstance(record, Trial) and elapsed_ns is not None:
            kept[-1] = records.to_line(replace(record, elapsed_ns=elapsed_ns))
    results.write_bytes(b"".join(kept))


def test_a_run_is_not_resumed_with_another_image(paths: Paths, suite: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    _interrupt_after(paths, suite, directory, trials=3)
    results = directory / records.RESULTS
    head, rest = results.read_text().split("\n", 1)
    digest = records.read(str(directory)).run.images["busybox"]
    results.write_text(head.replace(digest, "sha256:" + "0" * 64) + "\n" + rest)

    done = lab(paths, "bench", "resume", str(directory))

    assert done.returncode == 1
    assert "cannot be resumed here: image busybox was sha256:000" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("bench", "run", "quik"), 2, "unknown suite 'quik'; did you mean 'quick'?"),
        (("bench", "run", "quick", "--targets", "dokker"), 2, "unknown target 'dokker'; did you mean 'docker'?"),
        (("bench", "run", "quick", "--blocks", "0"), 2, "--blocks must be at least 1"),
        (("bench", "run", "quick", "--budget", "soon"), 2, "--budget: not a duration"),
        (("bench", "show", "19990101"), 2, "there is no run '19990101'"),
    ],
)
def test_bad_input_gets_one_sentence(paths: Paths, arguments: tuple[str, ...], code: int, words: str) -> None:
    done = lab(paths, *arguments)

    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_suite_with_a_typo_is_told_with_its_line(paths: Paths, tmp_path: Path) -> None:
    path = tmp_path / "typo.toml"
    path.write_text(SUITE.replace('use = "noop"', 'use = "nop"'))

    done = lab(paths, "bench", "run", str(path))

    assert done.returncode == 2
    assert f"{path}:18: unknown workload 'nop'; did you mean 'noop'?" in done.stderr


def test_pytest_benchmark_compares_an_exported_run(paths: Paths, suite: Path, tmp_path: Path) -> None:
    lab(paths, "bench", "run", str(suite), "--output", str(tmp_path / "run"))
    recording = records.read(str(tmp_path / "run"))
    file = tmp_path / "0001_run.json"
    file.write_text(export.export(recording, export.ExportFormat.PYTEST_BENCHMARK))

    argv = [sys.executable, "-m", "pytest_benchmark", "compare", str(file)]
    compared = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert compared.returncode == 0, compared.stderr
    assert "startup[container]" in compared.stdout
    assert "noop[process]" in compared.stdout
    ratios = {(row["workload"], row["target"]): row["ratio"] for row in summary.rows(recording)}
    assert ratios["startup", "process"] == "1"
    assert float(str(ratios["startup", "container"])) > 0
