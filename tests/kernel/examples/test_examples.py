"""The pages of the examples are true: each command does what is written below it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ..containers.conftest import Lab
from .walkthrough import EXAMPLES, NAMES, matches, steps, walk


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
@pytest.mark.needs("overlay")
@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_what_its_page_says(name: str, lab: Lab, tmp_path: Path) -> None:
    engine = (sys.executable, "-m", "lab", "--root", lab.paths.root)
    wrong = walk(name, engine, tmp_path)
    assert not wrong, "\n\n".join(wrong)
    assert lab.ok("ps", "-aq") == ""
    assert sorted(path.name for path in (tmp_path / name).iterdir()) == sorted(
        path.name for path in (EXAMPLES / name).iterdir()
    )


def test_every_example_is_in_the_overview_and_has_commands() -> None:
    overview = (EXAMPLES / "README.md").read_text()
    for name in sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()):
        assert f"({name}/README.md)" in overview
        assert len(steps((EXAMPLES / name / "README.md").read_text())) > 5


def test_a_page_is_read_as_commands_and_what_they_print() -> None:
    page = "x\n```console\n$ a b\n1\n2\n$ c\n```\n```sh\n$ no\n```\n```console\n$ d\n```\n"
    assert [(step.command, step.expected) for step in steps(page)] == [("a b", ("1", "2")), ("c", ()), ("d", ())]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ((), (), True),
        ((), ("x",), False),
        (("a",), (), False),
        (("a.c",), ("abc",), False),
        (("sha...:x",), ("sha256:x",), True),
        (("...",), (), True),
        (("a", "...", "z"), ("a", "b", "c", "z"), True),
        (("a", "...", "z"), ("a", "b", "c"), False),
        (("a",), ("a", ""), False),
    ],
)
def test_dots_stand_for_anything_and_nothing_else_does(
    expected: tuple[str, ...], printed: tuple[str, ...], same: bool
) -> None:
    assert matches(expected, printed) is same
