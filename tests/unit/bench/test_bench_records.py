"""Results on disk: what goes in comes out, and damage is told with its line."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench import records
from lab.bench.model import Cell, GivenUp, Noise, RunEnd, Sample, Trial, TrialKind, TrialStatus
from lab.errors import MeasurementError

_SPEC = importlib.util.spec_from_file_location("sample_run", Path(__file__).with_name("sample_run.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
sample_run = importlib.util.module_from_spec(_SPEC)
sys.modules["sample_run"] = sample_run
_SPEC.loader.exec_module(sample_run)

text = st.text(max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
trials = st.builds(
    Trial,
    cell=st.builds(Cell, workload=text, arm=text, twin=st.booleans()),
    kind=st.sampled_from(TrialKind),
    block=st.integers(0, 99),
    position=st.integers(0, 99),
    status=st.sampled_from(TrialStatus),
    started_at=text,
    marks_ns=st.dictionaries(text, st.integers(0, 2**63), max_size=4),
    samples=st.lists(st.builds(Sample, metric=text, value=numbers), max_size=3).map(tuple),
    noise=st.builds(Noise, steal_ns=st.integers(0, 9), flags=st.lists(text, max_size=2).map(tuple)),
    error=text,
    wall_ns=st.integers(0, 2**63),
    elapsed_ns=st.integers(0, 2**63),
)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return Path(sample_run.write_sample(str(tmp_path / "run"), blocks=2))


@given(trials)
def test_a_trial_comes_back_as_it_was_written_on_one_line(trial: Trial) -> None:
    line = records.to_line(trial)
    assert line.count(b"\n") == 1
    assert records.from_line(line) == trial


def test_a_cell_that_was_given_up_is_read_back_with_its_reason(results: Path) -> None:
    record = GivenUp(cell=Cell(workload="disk", arm="runc"), block=3, failures=3, reason="it failed", at="now")
    with records.Recorder(str(results)) as recorder:
        recorder.append(record)

    assert records.read(str(results)).given_up == (record,)


def test_the_time_a_run_took_is_known_without_an_end_record(results: Path) -> None:
    last = replace(next(iter(sample_run.sample_trials(1, 1))), elapsed_ns=190_000_000_000)
    with records.Recorder(str(results)) as recorder:
        recorder.append(last)

    recording = records.read(str(results))

    assert recording.end is None
    assert recording.elapsed_ns == 190_000_000_000


def test_the_time_a_run_took_is_that_of_its_last_end_where_trials_do_not_tell(results: Path) -> None:
    with records.Recorder(str(results)) as recorder:
        recorder.append(next(iter(sample_run.sample_trials(1, 1))))
        recorder.append(
            RunEnd(reason="interrupted", ended_at="", blocks=0, harness_cpu_ns=0, sampler_cpu_ns=0, elapsed_ns=7)
        )

    assert records.read(str(results)).elapsed_ns == 180_000_000_000


def test_a_run_comes_back_as_it_was_written(results: Path) -> None:
    recording = records.read(str(results.parent))
    assert recording.run == sample_run.sample_run()
    assert recording.trials == tuple(sample_run.sample_trials(2, 1))
    assert recording.end is not None
    assert recording.end.reason == "blocks"


def test_a_last_line_that_was_cut_off_is_left_out(results: Path) -> None:
    whole = results.read_bytes()
    results.write_bytes(whole[:-5])
    recording = records.read(str(results))
    assert recording.end is None
    assert len(recording.trials) == len(tuple(sample_run.sample_trials(2, 1)))


def test_resuming_cuts_the_broken_line_off_and_appends_after_it(results: Path) -> None:
    results.write_bytes(results.read_bytes()[:-5])
    recording = records.read(str(results))
    trial = recording.trials[0]
    with records.Recorder(str(results), keep_bytes=recording.complete_bytes) as recorder:
        recorder.append(trial)
    assert records.read(str(results)).trials == (*recording.trials, trial)


def test_a_run_that_went_on_after_its_end_has_not_ended(results: Path) -> None:
    recording = records.read(str(results))
    with records.Recorder(str(results)) as recorder:
        recorder.append(recording.trials[0])
    assert records.read(str(results)).end is None


@pytest.mark.parametrize(
    ("damage", "words"),
    [(b"{nonsense", "damaged record"), (b'{"type":"trial"}', "'cell' is missing"), (b'{"type":"?"}', "not a record")],
)
def test_damage_in_the_middle_is_told_with_its_line(results: Path, damage: bytes, words: str) -> None:
    lines = results.read_bytes().splitlines()
    lines[4] = damage
    results.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(MeasurementError, match=r"results.jsonl:5: .*" + words):
        records.read(str(results))


def test_a_wrong_type_is_told_with_its_place(results: Path) -> None:
    lines = results.read_text().splitlines()
    trial = json.loads(lines[1])
    trial["noise"]["steal_ns"] = "much"
    lines[1] = json.dumps(trial)
    results.write_text("\n".join(lines) + "\n")
    with pytest.raises(MeasurementError, match=r":2: .*trial\.noise\.steal_ns"):
        records.read(str(results))


def test_a_newer_schema_is_refused_with_a_hint(results: Path) -> None:
    lines = results.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"schema": records.SCHEMA + 1})
    results.write_text("\n".join(lines) + "\n")
    with pytest.raises(MeasurementError, match="newer"):
        records.read(str(results))


def test_fields_that_this_lab_does_not_know_are_ignored(results: Path) -> None:
    lines = results.read_text().splitlines()
    lines[0] = json.dumps(json.loads(lines[0]) | {"later": {"a": 1}})
    results.write_text("\n".join(lines) + "\n")
    assert records.read(str(results)).run == sample_run.sample_run()


def test_an_empty_or_missing_file_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(MeasurementError, match="no run record"):
        records.read(str(tmp_path / "empty.jsonl"))
    with pytest.raises(MeasurementError, match="No such file"):
        records.read(str(tmp_path / "missing.jsonl"))


def test_a_full_disk_is_a_sentence_that_says_how_to_go_on() -> None:
    # the kernel's own full device: no write to it succeeds
    with records.Recorder("/dev/full") as recorder, pytest.raises((MeasurementError, OSError)) as caught:
        recorder.append(sample_run.sample_run())
    assert isinstance(caught.value, MeasurementError)
    assert "No space left" in str(caught.value)
    assert "lab bench resume" in caught.value.hint


def test_a_directory_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="cannot record into"):
        records.Recorder(os.path.join(tmp_path, "missing", "results.jsonl"))
