"""Files of variables: quotes, comments, values of other variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.compose import dotenv
from lab.errors import SpecError


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A = 1 ", "1"),
        ("export A=1", "1"),
        ("A: 1", "1"),
        ("A=", ""),
        ("A=a b", "a b"),
        ("A=a # comment", "a"),
        ("A=a#b", "a#b"),
        ("A= # comment", ""),
        ("A='a # b'", "a # b"),
        ('A="a # b" # comment', "a # b"),
        ("A='$B ${C}'", "$B ${C}"),
        ('A="a\\nb\\t\\"c\\""', 'a\nb\t"c"'),
        ("A='a\\nb'", "a\\nb"),
        ('A="two\nlines"', "two\nlines"),
        ("A=$OUT/x", "outside/x"),
        ('A="${OUT}"', "outside"),
        ("A=${NONE:-x}", "x"),
        ('A="\\$OUT"', "$OUT"),
        ("A=k=v=w", "k=v=w"),
        ('A={"x": 1}', '{"x": 1}'),
        ("A", "a outside"),
        ("A=1\r", "1"),
    ],
)
def test_a_line_gives_a_variable(line: str, value: str) -> None:
    outside = {"OUT": "outside", "A": "a outside"}
    assert dotenv.parse(f"# first\n\n{line}\n", file=".env", outside=outside) == {"A": value}


def test_values_stand_for_earlier_lines_but_first_for_what_is_outside() -> None:
    text = "A=1\nB=$A-${C}\nA=2\nD=$A\nE\n"
    found = dotenv.parse(text, file=".env", outside={"C": "out"})
    assert found == {"A": "2", "B": "1-out", "D": "2", "E": None}
    assert dotenv.parse("A=1\nB=$A\n", file=".env", outside={"A": "out"})["B"] == "out"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A=1\n=2\n", 2),
        ("A=1\n\n# x\na b c\n", 4),
        ("A=${B\n", 1),
        ('A="x\ny"\n!\n', 3),
        ("A='x\n", 1),
        ("A='x'y\n", 1),
    ],
)
def test_what_is_no_line_of_variables_is_told_with_its_number(text: str, line: int) -> None:
    with pytest.raises(SpecError) as error:
        dotenv.parse(text, file="x.env", outside={})
    assert (error.value.path, error.value.line) == ("x.env", line)


def test_a_raw_file_has_values_as_they_stand() -> None:
    text = "# c\nA='1' # x\n B=$OUT\nC\nD=\n\n"
    assert dotenv.parse_raw(text, outside={"C": "c"}) == {"A": "'1' # x", "B": "$OUT", "C": "c", "D": ""}


@given(value=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="'\\\r\x00")))
def test_what_is_in_single_quotes_stands_for_itself(value: str) -> None:
    assert dotenv.parse(f"A='{value}'\nB=2\n", file="f", outside={}) == {"A": value, "B": "2"}
