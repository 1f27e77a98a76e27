"""What several containers write comes line by line, each with a name; progress comes in docker compose's words."""

from __future__ import annotations

import pytest

from lab.cli.compose_logs import LogLines
from lab.cli.compose_progress import Progress, ProgressMode, mode_of


def test_lines_get_names_of_one_width_and_are_whole(capfd: pytest.CaptureFixture[str]) -> None:
    lines = LogLines(("db-1", "web-1"), colours=False)
    database, web = lines.writer("db-1"), lines.writer("web-1")
    database(False, b"begun ")
    web(True, b"wrong\n")
    database(False, b"and ended\nrest")
    assert capfd.readouterr() == ("db-1   | begun and ended\n", "web-1  | wrong\n")


def test_each_name_has_a_colour_of_its_own_and_no_prefix_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    coloured = LogLines(("a", "b"), colours=True)
    for name in ("a", "b"):
        coloured.writer(name)(False, b"x\n")
    LogLines(("a",), colours=True, prefixes=False).writer("a")(False, b"x\n")
    assert capfd.readouterr().out == "\033[36ma  | \033[0mx\n\033[33mb  | \033[0mx\nx\n"


def test_progress_is_a_line_each_or_a_line_that_changes(capfd: pytest.CaptureFixture[str]) -> None:
    for mode in ProgressMode:
        shown = Progress(mode)
        shown.progress("Container a", "Starting")
        shown.progress("Container a", "Started")
    plain = " Container a  Starting\n Container a  Started\n"
    begun, ended = "\033[34m⠿\033[0m Container a  \033[34mStarting", "\033[32m✔\033[0m Container a  \033[32mStarted"
    live = f" {begun}\033[0m\033[K\n\033[1A {ended}\033[0m\033[K\n"
    assert capfd.readouterr().err == live + plain


def test_without_a_terminal_progress_is_plain() -> None:
    assert [mode_of("auto", ansi="auto"), mode_of("tty", ansi="auto")] == [ProgressMode.PLAIN, ProgressMode.TTY]
