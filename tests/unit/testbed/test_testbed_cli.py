"""`lab testbed`, as far as it needs no machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.cli.main import main


def lab(root: Path, *words: str) -> int:
    return main(["--root", str(root), "testbed", *words])


def test_without_a_machine_it_is_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lab(tmp_path, "status", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["mode"] == "down"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--"), "no command"),
        (("up", "--cpus", "0"), "--cpus 0"),
        (("up", "--deterministic", "--cpus", "2"), "--cpus 2"),
        (("up", "--memory", "much"), "--memory: "),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    assert lab(tmp_path, *words) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
