"""Tables, JSON and messages."""

from __future__ import annotations

import json

import pytest

from lab.cli import output

ROWS = [{"name": "busybox", "size_bytes": 1}, {"name": "debian", "size_bytes": 22}]


def test_a_table_lines_up_and_leaves_no_blanks_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing(ROWS, columns=("name", "size_bytes"))
    assert capsys.readouterr().out == "NAME     SIZE BYTES\nbusybox  1\ndebian   22\n"


def test_an_empty_table_still_says_its_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing([], columns=("name",))
    assert capsys.readouterr().out == "NAME\n"


def test_json_has_every_key_not_only_the_columns(capsys: pytest.CaptureFixture[str]) -> None:
    output.listing(ROWS, columns=("name",), output_format="json")
    assert json.loads(capsys.readouterr().out) == ROWS


def test_an_error_goes_to_standard_error_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    output.error("no such image", hint="lab image list")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "lab: no such image\n     try: lab image list\n"


def test_progress_is_a_line_each_when_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    progress = output.Progress()
    progress.update("one")
    progress.update("two")
    progress.done()
    assert capsys.readouterr().err == "one\ntwo\n"
