"""`lab doctor`: names, formats and exit codes, on checks that need nothing of the host."""

from __future__ import annotations

import json

import pytest

from lab.cli import main
from lab.errors import LabError, UnavailableError
from lab.paths import Paths
from lab.target import doctor
from lab.target.doctor import Check, Group
from lab.target.spec import Availability


def _refuses(_paths: Paths) -> Availability:
    raise UnavailableError("no such thing here", hint="apt-get install thing")


CHECKS = (
    Check(
        name="good",
        group=Group.STORAGE,
        title="a good thing",
        attempt=lambda _paths: Availability(available=True, facts=(("version", "1.2"),)),
        essential=True,
    ),
    Check(name="bad", group=Group.TOOLS, title="a bad thing", attempt=_refuses),
)


@pytest.fixture(autouse=True)
def two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "all_checks", lambda: CHECKS)


def test_what_fails_is_shown_with_reason_and_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["doctor"]) == 0  # what failed is not essential
    shown = capsys.readouterr().out
    assert "✓ good" in shown
    assert "(1.2)" in shown
    assert "✗ bad" in shown
    assert "no such thing here\n      try: apt-get install thing" in shown


def test_a_named_check_that_fails_is_exit_code_3() -> None:
    assert main.main(["doctor", "bad"]) == 3
    assert main.main(["doctor", "good"]) == 0


def test_an_unknown_check_is_exit_code_2_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["doctor", "goood"]) == 2
    assert "did you mean good?" in capsys.readouterr().err


def test_json_has_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    main.main(["doctor", "--format", "json"])
    good, bad = json.loads(capsys.readouterr().out)
    assert good["available"] is True
    assert good["facts"] == {"version": "1.2"}
    assert bad["reason"] == "no such thing here"
    assert bad["hint"] == "apt-get install thing"


def test_an_essential_check_that_fails_is_exit_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    failing = Check(name="root", group=Group.ESSENTIALS, title="root", attempt=_refuses, essential=True)
    monkeypatch.setattr(doctor, "all_checks", lambda: (failing,))
    assert main.main(["doctor"]) == 3


def test_a_foreseen_error_of_a_check_is_a_finding() -> None:
    finding = doctor.examine(CHECKS[1], Paths.under("/nowhere"))
    assert not finding.availability.available
    assert issubclass(UnavailableError, LabError)
