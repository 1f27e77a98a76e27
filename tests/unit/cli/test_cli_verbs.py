"""docker's way of writing flags, told to argparse: before, between and after other words, and none of a program's."""

from __future__ import annotations

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.cli.main import DockerParser, verb_parser
from lab.cli.verbs import as_docker_reads

_SWITCHES = ("-i", "-t", "-it", "--rm", "--rm=true", "-d=1", "--sig-proxy=false")
_VALUES = (("-e", "A=b"), ("-eA=b",), ("--env=A",), ("-m32m",), ("-m", "32m"), ("--memory-swap", "-1"), ("-ite", "A"))


def _parsed(noun: str, verb: str, *words: str) -> argparse.Namespace:
    parser, _ = verb_parser(noun, verb, prog=verb)
    return parser.parse_args(as_docker_reads(parser, words))


@given(
    flags=st.lists(st.sampled_from([*((word,) for word in _SWITCHES), *_VALUES])),
    program=st.lists(st.sampled_from(["--", "-", "-it", "--rm=true", "--nosuch", "sh", "-c", "a=b"])),
)
def test_what_follows_an_image_is_the_programs_word_for_word(flags: list[tuple[str, ...]], program: list[str]) -> None:
    given_flags = [word for flag in flags for word in flag]
    for lead in (("image",), ("--", "image")):
        arguments = _parsed("container", "run", *given_flags, *lead, *program)
        assert (arguments.image, arguments.command) == ("image", program)
        assert len(arguments.env) == sum(any("A" in word for word in flag) for flag in flags)


@pytest.mark.parametrize("word", ["--nosuch", "--nosuch=1", "-X", "-itX"])
@pytest.mark.parametrize("verb", ["run", "create", "exec", "rm", "rename", "inspect", "logs"])
def test_an_unknown_flag_is_told_before_what_is_missing(
    word: str, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        _parsed("container", verb, word)
    assert ended.value.code == 125
    assert f"unrecognized arguments: {word}" in capsys.readouterr().err


def test_flags_stand_between_other_words_where_no_program_follows() -> None:
    arguments = _parsed("container", "rm", "a", "-f", "b", "--volumes=true", "c")
    assert (arguments.containers, arguments.force, arguments.volumes) == (["a", "b", "c"], True, True)


def test_after_two_dashes_nothing_is_a_flag() -> None:
    arguments = _parsed("container", "rm", "--", "-f", "--")
    assert (arguments.containers, arguments.force) == (["-f", "--"], False)


def test_a_dash_alone_is_no_flag() -> None:
    assert _parsed("container", "cp", "-", "cc:/tmp").source == "-"


def test_a_flag_whose_value_is_missing_is_a_wrong_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        _parsed("container", "run", "--name")
    assert ended.value.code == 125
    assert "--name: expected one argument" in capsys.readouterr().err


def test_a_switch_that_is_off_is_left_out_or_said_the_other_way_round() -> None:
    parser = DockerParser(prog="x")
    parser.add_argument("-q", "--quiet", action="store_true")
    parser.add_argument("--pause", action=argparse.BooleanOptionalAction)
    assert as_docker_reads(parser, ["-q=false", "--pause=false", "--quiet=T"]) == ["--no-pause", "--quiet"]
