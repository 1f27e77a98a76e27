"""Which run is meant: by id, unique prefix, path, or "latest"."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.bench.records import RESULTS
from lab.bench.runs import find_run, run_ids
from lab.errors import SpecError

IDS = ("20261124-065923-quick", "20261124-070000-memory", "20261125-010000-quick")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for number, name in enumerate(reversed(IDS)):  # written to in another order than they are called
        results = tmp_path / "runs" / name / RESULTS
        results.parent.mkdir(parents=True)
        results.touch()
        os.utime(results, ns=(number, number))
    (tmp_path / "runs" / "no-run").mkdir()
    (tmp_path / "runs" / "a-file").touch()
    return tmp_path / "runs"


def test_runs_are_listed_as_they_were_written_to_and_nothing_else_is(runs: Path) -> None:
    assert run_ids(str(runs)) == tuple(reversed(IDS))


def test_there_are_no_runs_where_there_is_no_directory(tmp_path: Path) -> None:
    assert run_ids(str(tmp_path / "none")) == ()


@pytest.mark.parametrize("wanted", [IDS[1], "20261124-07", "20261124-070000-m"])
def test_a_run_is_found_by_its_id_and_by_a_prefix_that_only_it_has(runs: Path, wanted: str) -> None:
    assert find_run(str(runs), wanted) == str(runs / IDS[1])


def test_the_latest_run_is_the_one_that_was_written_to_last(runs: Path) -> None:
    assert find_run(str(runs), "latest") == str(runs / IDS[0])


def test_a_run_is_found_by_the_path_of_its_directory_or_results(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_run("/nowhere", str(runs / IDS[2])) == str(runs / IDS[2])
    assert find_run("/nowhere", str(runs / IDS[2] / RESULTS)) == str(runs / IDS[2])
    monkeypatch.chdir(runs)
    assert find_run("/nowhere", IDS[2]) == str(runs / IDS[2])


def test_an_id_that_begins_another_is_no_ambiguity(runs: Path) -> None:
    longer = runs / f"{IDS[0]}-2" / RESULTS
    longer.parent.mkdir()
    longer.touch()

    assert find_run(str(runs), IDS[0]) == str(runs / IDS[0])


def test_a_prefix_of_several_names_them(runs: Path) -> None:
    with pytest.raises(SpecError, match="'20261124' fits 2 runs") as caught:
        find_run(str(runs), "20261124")

    assert all(name in caught.value.hint for name in IDS[:2])


@pytest.mark.parametrize("wanted", ["19990101", "no-run", "a-file", "", "latest"])
def test_what_is_no_run_is_refused(tmp_path: Path, wanted: str) -> None:
    with pytest.raises(SpecError, match="there is no run"):
        find_run(str(tmp_path / "none"), wanted)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.sampled_from(IDS), st.integers(0, 30))
def test_every_prefix_means_the_one_run_that_has_it_or_none(runs: Path, name: str, length: int) -> None:
    prefix = name[:length]
    fitting = [other for other in IDS if other.startswith(prefix)]
    if len(fitting) == 1:
        assert find_run(str(runs), prefix) == str(runs / name)
    else:
        with pytest.raises(SpecError):
            find_run(str(runs), prefix)
