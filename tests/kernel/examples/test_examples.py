"""The pages of the examples are true: each command does what is written below it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ..containers.conftest import Lab
from .walking import does_what_its_page_says, engine, nothing_is_left
from .walkthrough import DOCS, EXAMPLES, LONG, NAMES, PAGES, bases, bases_of, follow, matches, steps


@pytest.mark.root
@pytest.mark.needs("mmdebstrap")
@pytest.mark.needs("overlay")
@pytest.mark.needs("dnsmasq")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in LONG])
def test_an_example_does_what_its_page_says(
    name: str, lab: Lab, base_archive: Callable[[str], str], tmp_path: Path
) -> None:
    does_what_its_page_says(name, lab, base_archive, tmp_path)


@pytest.mark.root
@pytest.mark.needs("overlay")
@pytest.mark.needs("dnsmasq")
@pytest.mark.needs("docker-registry")
@pytest.mark.parametrize("page", PAGES)
def test_a_page_of_the_documents_says_what_happens(page: str, lab: Lab, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    wrong = follow(DOCS / page, engine(lab), work)
    assert not wrong, "\n\n".join(wrong)
    nothing_is_left(lab)
    assert list(work.iterdir()) == []


def test_every_example_is_in_the_overview_and_has_commands() -> None:
    overview = (EXAMPLES / "README.md").read_text()
    for name in sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()):
        assert f"({name}/README.md)" in overview
        assert len(steps((EXAMPLES / name / "README.md").read_text())) > 5
        assert set(bases_of(name)) <= bases().keys()


def test_what_two_examples_have_in_common_is_the_same() -> None:
    for path in ("database/Dockerfile", "database/start.sh"):
        assert (EXAMPLES / "favourites" / path).read_bytes() == (EXAMPLES / "goals" / path).read_bytes()
    for name in ("index.js", "package.json"):
        client = EXAMPLES / "favourites" / "redis-client" / name
        assert client.read_bytes() == (EXAMPLES / "goals/backend/redis-client" / name).read_bytes()


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
