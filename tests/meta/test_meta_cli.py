"""Every --help works, has an example and is in the reference; the command line stays light."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest

from lab.cli import main
from lab.linux import command

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "docs/reference/cli.md"
HEAVY = ("pandas", "matplotlib", "numpy", "pyroute2", "libvirt", "jinja2", "asyncio", "subprocess", "logging")


ALL_PARSERS = list(main.all_parsers())
_every_parser = pytest.mark.parametrize("parser", ALL_PARSERS, ids=lambda parser: parser.prog)


@_every_parser
def test_every_help_can_be_shown_and_has_an_example(parser: argparse.ArgumentParser) -> None:
    assert "example" in parser.format_help(), f"{parser.prog} --help shows no example"


@_every_parser
def test_every_command_and_flag_is_in_the_reference(parser: argparse.ArgumentParser) -> None:
    section = _section(parser.prog)
    for action in parser._actions:
        for flag in action.option_strings:
            if flag.startswith("--") and flag != "--help":
                assert f"`{flag}" in section, f"{parser.prog} {flag} is not in {REFERENCE.name}"


def test_the_reference_has_no_command_that_does_not_exist() -> None:
    headings = [line.lstrip("# ").strip("`") for line in REFERENCE.read_text().splitlines() if line.startswith("## `")]
    assert sorted(headings) == sorted(parser.prog for parser in ALL_PARSERS)


def test_the_console_script_answers_help_for_every_noun() -> None:
    for noun in main.NOUNS:
        done = command.run([sys.executable, "-m", "lab", noun, "--help"])
        assert done.exit_code == 0, done.error_text
        assert done.text.startswith(f"usage: lab {noun}")


def test_asking_for_help_imports_nothing_heavy() -> None:
    script = "import sys; from lab.cli import main; main.build_parser().format_help(); print(*sys.modules)"
    loaded = command.run([sys.executable, "-c", script]).text.split()
    assert [name for name in HEAVY if name in loaded] == []


def _section(prog: str) -> str:
    _, found, rest = REFERENCE.read_text().partition(f"## `{prog}`\n")
    assert found, f"{prog} has no section in {REFERENCE.name}"
    return rest.partition("\n## ")[0]
