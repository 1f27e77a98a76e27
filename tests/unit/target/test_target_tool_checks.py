"""A tool is run, not looked for; what fails says why and how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.paths import Paths
from lab.target import tool_checks

PATHS = Paths.under("/nowhere")


def test_a_program_that_runs_is_there_with_its_version() -> None:
    answer = tool_checks.program("sh", "-c", "echo; echo tool 1.2.3", package="tool")(PATHS)
    assert answer.available
    assert answer.facts == (("version", "tool 1.2.3"),)


def test_a_version_on_standard_error_counts_too() -> None:
    answer = tool_checks.program("sh", "-c", "echo tool 4.5 >&2", package="tool")(PATHS)
    assert answer.facts == (("version", "tool 4.5"),)


def test_a_program_without_a_version_is_still_there() -> None:
    answer = tool_checks.program("true", package="coreutils")(PATHS)
    assert answer.available
    assert answer.facts == ()


def test_a_missing_program_names_its_package() -> None:
    answer = tool_checks.program("no-such-program-here", package="no-such-package")(PATHS)
    assert not answer.available
    assert answer.reason == "no-such-program-here: no such program"
    assert answer.hint.endswith("no-such-package")


def test_a_program_that_is_there_but_fails_is_not_available() -> None:
    answer = tool_checks.program("sh", "-c", "echo broken library >&2; exit 127", package="tool")(PATHS)
    assert not answer.available
    assert answer.reason.endswith("exit code 127: broken library")


def test_a_client_that_is_a_script_is_told_with_what_compiles_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert "there is no" in tool_checks.command_client(PATHS).reason
    script = tmp_path / "lab"
    script.write_text("#!/bin/sh\necho lab 1.0\n")
    script.chmod(0o755)
    answer = tool_checks.command_client(PATHS)
    assert (answer.available, "is a script" in answer.reason, "gcc" in answer.hint) == (False, True, True)
    script.write_text("#!/bin/sh\nexit 1\n")
    assert "exit code 1" in tool_checks.command_client(PATHS).reason
