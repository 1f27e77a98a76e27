"""The command line: a user's mistake is one sentence, a hint and an exit code, never a traceback."""

from __future__ import annotations

import argparse
import types
from pathlib import Path

import pytest

from lab.cli import main
from lab.errors import SpecError
from lab.paths import Paths


def _noun_that_raises(error: BaseException) -> types.SimpleNamespace:
    def run(_arguments: argparse.Namespace, _paths: Paths) -> int:
        raise error

    return types.SimpleNamespace(add_arguments=lambda _parser: None, run=run)


@pytest.fixture
def failing_with(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    def fail(error: BaseException, *flags: str) -> int:
        monkeypatch.setattr(main, "_noun", lambda _name: _noun_that_raises(error))
        return main.main([*flags, "doctor"])

    return fail


def test_nothing_to_do_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main([]) == 2
    assert "nouns:" in capsys.readouterr().out


@pytest.mark.parametrize(("typo", "meant"), [("bnech", "bench"), ("contianer", "container"), ("docter", "doctor")])
def test_a_mistyped_noun_gets_a_suggestion(capsys: pytest.CaptureFixture[str], typo: str, meant: str) -> None:
    assert main.main([typo]) == 2
    assert capsys.readouterr().err == f"lab: unknown noun '{typo}'\n     try: lab {meant}\n"


def test_an_unknown_noun_points_to_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["xyzzy"]) == 2
    assert "lab --help" in capsys.readouterr().err


def test_an_unknown_flag_is_a_sentence_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main.main(["doctor", "--fromat", "json"])
    assert exited.value.code == 2
    assert capsys.readouterr().err == ("lab: unrecognized arguments: --fromat\n     try: lab doctor --help\n")


def test_a_mistyped_verb_gets_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["image", "bootstarp"]) == 2
    assert "did you mean 'bootstrap'?" in capsys.readouterr().err


def test_a_missing_python_package_is_not_possible_here(failing_with, capsys) -> None:  # type: ignore[no-untyped-def]
    assert failing_with(ModuleNotFoundError("No module named 'libvirt'", name="libvirt")) == 3
    assert "No module named 'libvirt'" in capsys.readouterr().err


def test_a_foreseen_error_shows_message_hint_and_its_exit_code(failing_with, capsys) -> None:  # type: ignore[no-untyped-def]
    assert failing_with(SpecError("no such suite", hint="lab bench list")) == 2
    assert capsys.readouterr().err == "lab: no such suite\n     try: lab bench list\n"


def test_an_unforeseen_error_is_called_a_bug_without_a_traceback(failing_with, capsys) -> None:  # type: ignore[no-untyped-def]
    assert failing_with(ZeroDivisionError("division by zero")) == 1
    shown = capsys.readouterr().err
    assert "this is a bug: ZeroDivisionError: division by zero" in shown
    assert "Traceback" not in shown


def test_the_traceback_is_there_when_asked_for(failing_with, capsys) -> None:  # type: ignore[no-untyped-def]
    assert failing_with(ZeroDivisionError("division by zero"), "--log-level", "debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_full_disk_is_no_bug(failing_with, capsys) -> None:  # type: ignore[no-untyped-def]
    assert failing_with(OSError(28, "No space left on device", "/x/results.jsonl")) == 1
    told = capsys.readouterr().err
    assert "cannot write to /x/results.jsonl: No space left on device" in told
    assert "lab system prune" in told


def test_both_errors_are_shown_when_cleaning_up_failed_too(failing_with, capsys) -> None:  # type: ignore[no-untyped-def]
    error = SpecError("it failed")
    error.add_note("and destroying the target failed too: busy")
    failing_with(error)
    assert "it failed; and destroying the target failed too: busy" in capsys.readouterr().err


def test_interrupting_is_130(failing_with) -> None:  # type: ignore[no-untyped-def]
    assert failing_with(KeyboardInterrupt()) == 130


def test_a_noun_without_a_verb_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["image"]) == 2
    assert "usage: lab image" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main.main(["--version"])
    assert exited.value.code == 0
    assert capsys.readouterr().out.startswith("lab ")


def test_root_moves_all_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[str] = []

    def run(_arguments: argparse.Namespace, paths: Paths) -> int:
        seen.append(paths.root)
        return 0

    noun = types.SimpleNamespace(add_arguments=lambda _parser: None, run=run)
    monkeypatch.setattr(main, "_noun", lambda _name: noun)
    assert main.main(["--root", str(tmp_path), "doctor"]) == 0
    assert seen == [str(tmp_path)]
