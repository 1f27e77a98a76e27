"""Image names normalise as docker's do."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.reference import parse_reference
from lab.errors import SpecError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("a", "docker.io/library/a:latest", "a:latest"), ("u/a:1", "docker.io/u/a:1", "u/a:1"),
        ("localhost/a", "localhost/a:latest", "localhost/a:latest"), ("h:5000/a/b:t", "h:5000/a/b:t", "h:5000/a/b:t"),
        ("index.docker.io/a", "docker.io/library/a:latest", "a:latest"),
        (f"a@{DIGEST}", f"docker.io/library/a@{DIGEST}", f"a@{DIGEST}"),
        (f"a:1@{DIGEST}", f"docker.io/library/a:1@{DIGEST}", f"a:1@{DIGEST}"),
        ("[::1]:5000/a", "[::1]:5000/a:latest", "[::1]:5000/a:latest"),
    ],
)  # fmt: skip
def test_a_name_gets_its_defaults(text: str, full: str, familiar: str) -> None:
    assert (str(parse_reference(text)), parse_reference(text).familiar) == (full, familiar)
    assert parse_reference(full) == parse_reference(text)


@pytest.mark.parametrize(
    "text", ["", "A", "a:", "a@", "a@sha256:1", "a//b", "a:b c", "-a", "a" * 256, "a" * 64, "a.b/"]
)
def test_a_malformed_name_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_reference(text)


@given(st.text(alphabet="aA.:/@-_0[]"))
def test_no_name_raises_anything_else(text: str) -> None:
    with contextlib.suppress(SpecError):
        found = parse_reference(text)
        assert parse_reference(str(found)) == found
