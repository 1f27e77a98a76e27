"""Parameters of requests, as docker's server reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.api.query import Query, filters
from lab.errors import SpecError


@given(st.dictionaries(st.text(max_size=5), st.lists(st.text(max_size=5), unique=True, max_size=3), max_size=3))
def test_both_shapes_of_filters_mean_the_same(wanted: dict[str, list[str]]) -> None:
    as_maps = {name: dict.fromkeys(values, True) for name, values in wanted.items()}
    assert filters(json.loads(json.dumps(wanted))) == filters(json.loads(json.dumps(as_maps))) == wanted


def test_a_filter_that_is_none_or_unknown_is_refused() -> None:
    for document in ([], "x", {"label": "a"}, {"label": [1]}):
        with pytest.raises(SpecError, match="invalid filter"):
            filters(document)
    with pytest.raises(SpecError, match="Invalid filter 'colour'"):
        Query('filters={"colour":["red"]}').filters(("label",))


@pytest.mark.parametrize(
    ("text", "truth"), [("a=1", True), ("a=true", True), ("a=0", False), ("a=False", False), ("a=", False), ("", False)]
)
def test_truths(text: str, truth: bool) -> None:
    assert Query(text).truth("a") is truth


def test_times_are_seconds_with_or_without_a_fraction() -> None:
    assert Query("since=12").instant_ns("since") == 12_000_000_000
    assert Query("since=12.5").instant_ns("since") == 12_500_000_000
    assert Query("since=0").instant_ns("since") is None
    with pytest.raises(SpecError, match="failed to parse"):
        Query("since=yesterday").instant_ns("since")
