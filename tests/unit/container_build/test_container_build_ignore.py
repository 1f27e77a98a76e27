"""The ignore file leaves out what its rules say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.ignore import parse_ignore
from lab.errors import SpecError


@pytest.mark.parametrize(
    ("text", "path", "excluded"),
    [
        ("a", "a/b", True), ("a/", "a", True), ("/a", "a", True), ("*.c", "d/x.c", False), ("**/*.c", "d/x.c", True),
        ("**/*.c", "x.c", True), ("a/**", "a/b/c", True), ("a/**", "a", False), ("*\n!k", "k", False),
        ("*\n!k", "k/x", False), ("!k\n*", "k", True), ("#a\n b ", "b", True), ("\ufeffa", "a", True),
        ("a?", "ab", True), ("[ab]", "b", True), ("[^ab]", "b", False), (r"\*", "*", True), (r"\*", "x", False),
        ("a/../b", "b", True), ("a.b", "axb", False),
    ],
)  # fmt: skip
def test_a_pattern_decides(text: str, path: str, excluded: bool) -> None:
    assert parse_ignore(text).excludes(path) is excluded


@pytest.mark.parametrize("text", ["a\n!", "a\n[", "a\nx\\"])
def test_a_malformed_pattern_names_its_line(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_ignore(text)
    assert caught.value.line == 2


def _naive_component(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_naive_component(pattern[1:], text[i:]) for i in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _naive_component(pattern[1:], text[1:])


def _naive_path(pattern: list[str], path: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern == ["**"]:
        return bool(path)
    if pattern[0] == "**":
        return any(_naive_path(pattern[1:], path[i:]) for i in range(len(path) + 1))
    return bool(path) and _naive_component(pattern[0], path[0]) and _naive_path(pattern[1:], path[1:])


def _naive(patterns: list[str], path: str) -> bool:
    parts, excluded = path.split("/"), False
    for pattern in patterns:
        wanted = pattern.removeprefix("!").split("/")
        if any(_naive_path(wanted, parts[:count]) for count in range(1, len(parts) + 1)):
            excluded = not pattern.startswith("!")
    return excluded


_COMPONENTS = st.sampled_from(["a", "b", "ab", "*", "?", "a*", "**"])
_PATTERNS = st.lists(_COMPONENTS, min_size=1, max_size=3).map("/".join)
_RULES = st.lists(st.tuples(st.sampled_from(["", "!"]), _PATTERNS).map("".join), max_size=5)
_PATHS = st.lists(st.sampled_from(["a", "b", "ab", "abc"]), min_size=1, max_size=4).map("/".join)


@given(_RULES, _PATHS)
def test_the_verdict_is_that_of_a_naive_matcher(rules: list[str], path: str) -> None:
    assert parse_ignore("\n".join(rules)).excludes(path) is _naive(rules, path)


@given(_RULES, _PATHS, _PATHS)
def test_nothing_below_a_pruned_directory_is_taken_in(rules: list[str], directory: str, below: str) -> None:
    parsed = parse_ignore("\n".join(rules))
    if parsed.prunes(directory):
        assert parsed.excludes(f"{directory}/{below}")
