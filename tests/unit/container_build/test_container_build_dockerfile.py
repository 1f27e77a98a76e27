"""A Dockerfile parses into instructions, or names the line that is wrong."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.dockerfile import Heredoc, Keyword, parse_dockerfile
from lab.errors import DockerfileError, SpecError


def test_continuations_skip_comments_and_keep_lines() -> None:
    found = parse_dockerfile("FROM a\nRUN b \\\n# c\n\n  d\nUSER e\n").instructions
    assert [(each.first_line, each.last_line) for each in found] == [(1, 1), (2, 5), (6, 6)]
    assert found[1].arguments == "b   d"


def test_the_escape_directive_changes_the_continuation() -> None:
    parsed = parse_dockerfile("# escape=`\nFROM a\nRUN b `\n c\\\nUSER d")
    assert parsed.escape == "`"
    assert parsed.instructions[1].arguments == "b  c\\"


def test_several_heredocs_follow_one_line() -> None:
    copy = parse_dockerfile("FROM a\nCOPY <<X <<-'Y' /d/\n$1\nX\n\t2\n\tY\nUSER u").instructions[1]
    assert copy.heredocs == (
        Heredoc(name="X", lines=("$1",), expand=True),
        Heredoc(name="Y", lines=("\t2",), expand=False, chomp=True),
    )
    assert [each.content for each in copy.heredocs] == ["$1\n", "2\n"]
    assert copy.heredocs[1].source == "\t2\nY"
    assert copy.last_line == 6


def test_only_valid_json_is_the_exec_form() -> None:
    found = parse_dockerfile('FROM a\nCMD ["x", "y"]\nRUN [ -f x ]\nRUN ["x"').instructions
    assert [each.words for each in found] == [None, ("x", "y"), None, None]
    with pytest.raises(DockerfileError, match="strings only"):
        parse_dockerfile("FROM a\nRUN [1]")


def test_flags_are_taken_off() -> None:
    copy = parse_dockerfile("FROM a AS B\nCOPY --from=b --link x y").instructions[1]
    assert (copy.keyword, copy.flags, copy.arguments) == (Keyword.COPY, (("from", "b"), ("link", "true")), "x y")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", None, "no instructions"), ("FROM a\nRUM b", 2, "unknown instruction: RUM"),
        ("FROM a\nCOPY --form=x a b", 2, "unknown flag: --form"), ("RUN x", 1, "no build stage"),
        ("FROM a AS x\nFROM b AS X", 2, "duplicate name x"), ("FROM a b", 1, "one or three"),
        ("FROM a\nRUN <<E\nx", 2, "unterminated heredoc"), ("FROM a\nRUN <<'E\nx\nE", 2, "single-quote"),
        ("FROM a\nMAINTAINER --boo x", 2, "unknown flag: --boo"), ("FROM a\nCOPY --from a b", 2, "missing a value"),
        ("FROM a\nCOPY --link=x a b", 2, "boolean"), ("ARG x", 1, "FROM is missing"),
        ("# escape=x\nFROM a", 1, "escape"),
    ],
)  # fmt: skip
def test_an_error_names_its_line(text: str, line: int | None, words: str) -> None:
    with pytest.raises(SpecError, match=words) as caught:
        parse_dockerfile(text)
    assert caught.value.line == line


@given(
    st.lists(st.sampled_from(["FROM a", "RUN ", "COPY ", "--from=x ", "<<E", "E", "\\", "\n", "#", "[", '"', " as b"]))
)
def test_no_text_raises_anything_else(parts: list[str]) -> None:
    with contextlib.suppress(SpecError):
        parse_dockerfile("".join(parts))


@pytest.mark.parametrize(
    ("words", "end", "expand"),
    [
        ("<<E", "E", True), ("3<<E", "E", True), ("<<'E'", "E", False), ('<<"E"', "E", False), ("<<-'E'", "E", False),
        ("<<eo'f'", "eof", False), (r"<<eo\'f", "eo'f", True), (r"<<'e'o\'f", "eo'f", False),
        ("<<'one two'", "one two", False), ("<<$E", "$E", True), ("<<  E", "E", True), ("<<- E > x", "E", True),
        ("cat <<E | sed s/a/b/", "E", True), ("<< -E", "-E", True), ("<<file.txt", "file.txt", True),
    ],
)  # fmt: skip
def test_the_word_of_a_heredoc_is_read_as_the_shell_reads_it(words: str, end: str, expand: bool) -> None:
    found = parse_dockerfile(f"FROM a\nRUN {words}\n# x\n\n{end}\nUSER u").instructions[1]
    assert [(each.name, each.lines, each.expand) for each in found.heredocs] == [(end, ("# x", ""), expand)]


@pytest.mark.parametrize(
    "command", ["cat <<<EOF", "echo $((1<<x))", 'echo "<<EOF"', "echo 'a <<EOF b'", 'echo "x \\" <<EOF"']
)
def test_a_here_string_and_a_shift_are_no_heredoc(command: str) -> None:
    assert parse_dockerfile(f"FROM a\nRUN {command}\nUSER u").instructions[1].heredocs == ()
