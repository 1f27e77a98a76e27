"""Every verb and flag that docker's help shows is the lab's as well, or docs/reference/docker-flags.md says why not."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.cli import main
from lab.cli.verbs import Verbs, find
from lab.linux import command

pytestmark = pytest.mark.needs("docker")
PAGE = Path(__file__).resolve().parents[2] / "docs/reference/docker-flags.md"
NOUNS = ("builder", "container", "image", "network", "system", "volume")
ANOTHER_JOB = {"volume update"}  # volumes of a swarm
_FLAG = re.compile(r"^ +(?:-\w, )?(--[a-z0-9-]+)", re.MULTILINE)
_VERB = re.compile(r"^  ([a-z-]+)[* ] ", re.MULTILINE)


def _help(*words: str) -> str:
    return command.run(["docker", *words, "--help"]).text


def _docker() -> dict[str, set[str]]:
    """Return docker's flags by verb: "run", and "image ls" where no verb at the top says the same."""
    top = re.split(r"^(?:Management|Swarm) Commands:$", _help(), flags=re.MULTILINE)
    alone = _VERB.findall(top[0]) + _VERB.findall(top[-1].partition("\nCommands:")[2].partition("\nGlobal")[0])
    below = [f"{noun} {verb}" for noun in NOUNS for verb in _VERB.findall(_help(noun).partition("Commands:")[2])]
    return {verb: set(_FLAG.findall(_help(*verb.split()))) for verb in dict.fromkeys(alone + below)}


def _lab(words: str) -> argparse.ArgumentParser | None:
    noun, _, name = words.partition(" ")
    if not name:
        noun, name = main.STANDALONE.get(noun, ("", ""))
    verbs: Verbs = getattr(main._noun(noun), "VERBS", {}) if noun in main.NOUNS else {}
    verb = find(verbs, name)
    known = next((key for key, value in verbs.items() if value is verb), None)
    return None if known is None else main.verb_parser(noun, known, prog=f"lab {words}")[0]


def _said() -> Iterator[tuple[str, str]]:
    for line in PAGE.read_text().splitlines():
        if line.startswith("| `"):
            verbs, flags = (re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3])
            yield from ((verb, flag) for verb in verbs for flag in flags)


@pytest.fixture(scope="module")
def missing() -> set[tuple[str, str]]:
    """Return each flag of docker's verbs that the lab's do not have; the flag is "" where the verb is missing."""
    found = set()
    for verb, flags in _docker().items():
        parser = _lab(verb)
        ours = set() if parser is None else set(parser._option_string_actions)
        found |= {(verb, flag) for flag in flags - ours} if parser is not None else {(verb, "")}
    return found


def test_docker_has_no_verb_that_the_lab_does_not_have(missing: set[tuple[str, str]]) -> None:
    assert {verb for verb, flag in missing if not flag} == ANOTHER_JOB


def test_every_flag_that_is_not_there_is_told_with_its_reason(missing: set[tuple[str, str]]) -> None:
    said = set(_said())
    untold = {(verb, flag) for verb, flag in missing if flag and not {(verb, flag), (_alone(verb), flag)} & said}
    assert sorted(untold) == []


def test_no_flag_is_told_that_is_there(missing: set[tuple[str, str]]) -> None:
    # docker's client asks its daemon which flags it may show, so that one that is told need not be in its help
    there = {(verb, flag) for verb, flag in _said() if (parser := _lab(verb)) and flag in parser._option_string_actions}
    assert sorted(there) == []


def _alone(verb: str) -> str:
    """Return the verb at the top that is the same as a noun's, "" if there is none."""
    noun, _, name = verb.partition(" ")
    same = (word for word, belongs in main.STANDALONE.items() if belongs == (noun, name))
    return next(same, "build" if verb == "image build" else "")
