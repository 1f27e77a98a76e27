"""`lab report`: a wrong word is one sentence and exit code 2; results go to standard output, one a line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from unit.report import synthetic_runs as synthetic

from lab.cli import main

ARMS = (synthetic.PROCESS, synthetic.CONTAINER)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return an installation with two runs, the second written later."""
    for name in ("20261124-a", "20261125-b"):
        synthetic.write_run(tmp_path / "runs" / name, ARMS, blocks=5, disk=False)
    os.utime(tmp_path / "runs" / "20261124-a" / "results.jsonl", (1, 1))
    return tmp_path


def lab(root: Path, *argv: str) -> int:
    return main.main(["--root", str(root), "report", *argv])


@pytest.mark.parametrize("verb", ["build", "path"])
def test_a_run_that_is_not_there_is_one_sentence(root: Path, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert lab(root, verb, "20991231") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"lab: there is no run '20991231' in {root}/runs\n     try: see what there is: lab report list\n"


def test_a_prefix_of_two_runs_names_both(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(root, "build", "202611") == 2
    said = capsys.readouterr().err
    assert said.startswith("lab: '202611' fits 2 runs\n")
    assert "20261124-a" in said
    assert "20261125-b" in said


@pytest.mark.parametrize("formats", ["pdf", "html,pdf", ""])
def test_an_unknown_format_is_one_sentence_and_writes_nothing(
    root: Path, capsys: pytest.CaptureFixture[str], formats: str
) -> None:
    assert lab(root, "build", "latest", "--format", formats) == 2
    said = capsys.readouterr()
    assert said.err.startswith("lab: unknown report format '")
    assert said.err.endswith("any of: html,md,csv,parquet,png\n")
    assert not (root / "runs" / "20261125-b" / "report").exists()


def test_a_damaged_file_names_itself_and_its_line(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = root / "runs" / "20261124-a" / "results.jsonl"
    lines = results.read_text().splitlines()
    results.write_text("\n".join([*lines[:3], "{not json", *lines[3:]]) + "\n")
    assert lab(root, "build", "20261124-a") == 1
    said = capsys.readouterr().err
    assert f"{results}:4" in said
    assert "Traceback" not in said


def test_a_build_prints_the_page_first_and_every_file_exists(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(root, "build", "latest") == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert files[0] == root / "runs" / "20261125-b" / "report" / "report.html"
    assert all(file.stat().st_size > 0 for file in files)
    assert {file.suffix for file in files} == {".html", ".md", ".csv", ".parquet", ".png", ".svg"}
    assert not list(files[0].parent.rglob("*.part"))


def test_only_the_formats_asked_for_are_written(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(root, "build", "latest", "--format", "csv", "--output", str(root / "out")) == 0
    assert sorted(path.name for path in (root / "out").iterdir()) == ["samples.csv", "trials.csv"]


def test_the_list_tells_which_runs_have_a_report(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(root, "build", "20261125-b", "--format", "html") == 0
    page = capsys.readouterr().out.strip()
    assert lab(root, "list", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == [
        {"run": "20261124-a", "report": "none yet"},
        {"run": "20261125-b", "report": page},
    ]


def test_an_installation_without_runs_lists_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(tmp_path, "list", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out) == []


def test_the_path_is_printed_alone_once_there_is_a_page(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(root, "path", "latest") == 2
    assert "has no report yet\n     try: build it: lab report build 20261125-b\n" in capsys.readouterr().err
    assert lab(root, "build", "latest", "--format", "html") == 0
    built = capsys.readouterr().out
    assert lab(root, "path", "latest") == 0
    assert capsys.readouterr().out == built
