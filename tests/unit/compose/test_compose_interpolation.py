"""Variables in texts: which forms there are, what each gives, and what is none."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.compose.interpolation import InterpolationError, Variables, escape, interpolate

_VALUES = {"SET": "value", "EMPTY": "", "OTHER": "other"}


def _interpolated(text: str) -> str:
    return interpolate(text, Variables(values=_VALUES))


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a${SET}b$SET-c", "avaluebvalue-c"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("$$$SET", "$value"),
        ("${SET:-x}|${EMPTY:-x}|${UNSET:-x}", "value|x|x"),
        ("${SET-x}|${EMPTY-x}|${UNSET-x}", "value||x"),
        ("${SET:+x}|${EMPTY:+x}|${UNSET:+x}", "x||"),
        ("${SET+x}|${EMPTY+x}|${UNSET+x}", "x|x|"),
        ("${SET:?no}|${SET?no}|${EMPTY?no}", "value|value|"),
        ("${UNSET:-}", ""),
        ("${UNSET:-a b:c/d}", "a b:c/d"),
        ("${UNSET:-$OTHER}", "other"),
        ("${UNSET:-${EMPTY:-${OTHER}}}", "other"),
        ("${UNSET:-${SET}/${OTHER}}x", "value/otherx"),
        ("${SET:-${UNSET:?never asked}}", "value"),
        ("${SET:+${OTHER}}", "other"),
        ('${UNSET:-{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
        ("${UNSET:-$$x}", "$x"),
        ("${A-" * 32 + "x" + "}" * 32, "x"),
        ("{}", "{}"),
    ],
)
def test_a_variable_is_replaced(template: str, text: str) -> None:
    assert _interpolated(template) == text


@pytest.mark.parametrize(
    "template",
    ["$", "a $ b", "$1", "${", "${}", "${SET", "${SET!x}", "${1}", "${UNSET:-{}", "$-", "${A-" * 33 + "}" * 33],
)
def test_what_is_no_template_is_refused_and_shown(template: str) -> None:
    with pytest.raises(InterpolationError, match=re.escape(f"invalid interpolation format: {template!r}")):
        _interpolated(template)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("${UNSET:?set $OTHER}", "required variable UNSET is missing a value: set other"),
        ("${UNSET?}", "required variable UNSET is missing a value"),
        ("${EMPTY:?}", "required variable EMPTY is missing a value"),
    ],
)
def test_a_variable_that_is_required_has_to_have_a_value(template: str, message: str) -> None:
    with pytest.raises(InterpolationError) as error:
        _interpolated(template)
    assert str(error.value) == message


def test_a_variable_without_a_value_is_told_once_and_one_with_a_default_never() -> None:
    variables = Variables(values={})
    assert interpolate("$B ${A} $B ${C:-x} ${D+${E}} ${F:-$A}", variables) == "   x  "
    assert variables.warnings() == (
        'The "B" variable is not set. Defaulting to a blank string.',
        'The "A" variable is not set. Defaulting to a blank string.',
    )


@given(text=st.text())
def test_an_escaped_text_stands_for_itself(text: str) -> None:
    assert _interpolated(escape(text)) == text


@given(value=st.text(), before=st.text(alphabet=st.characters(exclude_characters="$")))
def test_a_value_is_not_read_again(value: str, before: str) -> None:
    assert interpolate(before + "${A}", Variables(values={"A": value})) == before + value


@given(text=st.text(alphabet="${}:-?+SETA a"))
def test_any_text_is_a_template_or_is_refused(text: str) -> None:
    with contextlib.suppress(InterpolationError):
        assert isinstance(_interpolated(text), str)
