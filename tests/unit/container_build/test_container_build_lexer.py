"""Words of a Dockerfile expand as its reference says."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.lexer import expand, expand_words
from lab.errors import SpecError

VARIABLES = {"x": "foo.tar.gz", "empty": "", "two": "a b"}


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("$x", "foo.tar.gz"), ("${x}y", "foo.tar.gzy"), ("${none}", ""), ("$", "$"), ("a$ b", "a$ b"),
        ("${empty:-d}", "d"), ("${empty-d}", ""), ("${none-d}", "d"), ("${x:+y}", "y"), ("${empty:+y}", ""),
        ("${empty+y}", "y"), ("${none:-${x}}", "foo.tar.gz"), ("${x#*.}", "tar.gz"), ("${x##*.}", "gz"),
        ("${x%.*}", "foo.tar"), ("${x%%.*}", "foo"), ("${x/a/-}", "foo.t-r.gz"), ("${x//o/0}", "f00.tar.gz"),
        (r"\$x", "$x"), ("'$x'", "$x"), ('"$x"', "foo.tar.gz"), (r'"\$x \n"', r"$x \n"),
    ],
)  # fmt: skip
def test_a_word_expands(word: str, expected: str) -> None:
    assert expand(word, VARIABLES) == expected


@pytest.mark.parametrize("word", ["${", "${x", "${}", "'a", '"a', "${x:=y}", "${none:?gone}", "${none?}", "${x/a}"])
def test_a_malformed_word_is_refused(word: str) -> None:
    with pytest.raises(SpecError):
        expand(word, VARIABLES)


def test_only_blanks_outside_quotes_split() -> None:
    assert expand_words("$two '$two' \"$two\" ''", VARIABLES) == ("a", "b", "$two", "a b", "")


@given(st.text())
def test_a_single_quoted_text_is_itself(text: str) -> None:
    quoted = '"\'"'.join(f"'{part}'" for part in text.split("'"))
    assert expand(quoted, VARIABLES) == text
    assert expand_words(quoted, VARIABLES) == (text,)


@given(st.text(alphabet="${}x:-+?#%/'\"\\ a*"))
def test_no_word_raises_anything_else(text: str) -> None:
    with contextlib.suppress(SpecError):
        expand(text, VARIABLES)


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(SpecError, match="nested"):
        expand("${a:-" * 5000, VARIABLES)
