"""The short table of a run: what its rows say of arms that were measured, that failed, and that were given up."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab.bench import records, summary
from lab.bench.model import Cell, GivenUp, Primary
from lab.bench.probes import footprint
from lab.bench.records import Recording
from lab.target.spec import CgroupDirectory

_SPEC = importlib.util.spec_from_file_location("sample_run", Path(__file__).with_name("sample_run.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
sample_run = importlib.util.module_from_spec(_SPEC)
sys.modules["sample_run"] = sample_run
_SPEC.loader.exec_module(sample_run)


@pytest.fixture
def recording(tmp_path: Path) -> Recording:
    return records.read(sample_run.write_sample(str(tmp_path), blocks=6))


def row(recording: Recording, workload: str, target: str) -> dict[str, object]:
    (found,) = [r for r in summary.rows(recording) if (r["workload"], r["target"]) == (workload, target)]
    return found


def test_the_baseline_is_what_the_others_are_held_against(recording: Recording) -> None:
    assert row(recording, "startup", "process")["interval"] == "baseline"
    assert row(recording, "startup", "docker")["verdict"] == "different"
    assert row(recording, "startup", "process (A/A twin)")["verdict"] in ("equivalent", "inconclusive")


def test_an_emulated_arm_is_called_so(recording: Recording) -> None:
    assert row(recording, "cpu", "vm-tcg (software emulation)")["trials"] == 6


def test_a_failed_trial_is_counted_and_left_out_of_the_median(recording: Recording) -> None:
    found = row(recording, "service", "podman")

    assert (found["trials"], found["failed"]) == (5, 1)


def test_an_arm_that_was_given_up_is_called_so_whatever_its_ratio(recording: Recording) -> None:
    record = GivenUp(cell=Cell(workload="startup", arm="docker"), block=6, failures=3, reason="it failed", at="")

    rows = replace(recording, given_up=(record,))

    assert row(rows, "startup", "docker")["verdict"] == "given up"
    assert row(rows, "service", "docker")["verdict"] == "different"


def test_every_unit_is_written_as_the_report_writes_it(recording: Recording) -> None:
    primary = Primary(workload="disk", metric="io_operations", labels={"io_depth": "1"})
    rates = replace(recording, run=replace(recording.run, primary=(primary,)))

    assert str(row(rates, "disk", "process")["median"]).endswith(" /s")


def test_the_invented_runs_have_the_views_that_the_probe_reads(tmp_path: Path) -> None:
    stat = "anon 0\nfile 0\nshmem 0\ninactive_file 0\npgmajfault 0"
    for name, text in {"memory.current": "4096", "memory.stat": stat, "memory.peak": "4096"}.items():
        (tmp_path / name).write_text(f"{text}\n")
    cgroups = footprint.cgroup_views([CgroupDirectory(controller="", path=str(tmp_path))])

    read = {*footprint.process_views((os.getpid(),)).views, *cgroups, "host_available_drop"}

    assert set(sample_run.VIEWS) == read
