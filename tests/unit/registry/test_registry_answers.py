"""Challenges, refusals, delays and platforms: what is read in a registry's answers."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.platforms import parse_platform, select
from lab.container.registry.challenge import parse_challenges
from lab.container.registry.failures import delay_s, is_transient, reason_of, refusal
from lab.container.spec.image import Descriptor, Index, MediaType, Platform
from lab.errors import RegistryError, SpecError

NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def test_a_bearer_challenge_is_read_with_its_scope_of_several_actions() -> None:
    header = 'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push"'
    (found,) = parse_challenges([header])
    assert found.scheme == "bearer"
    assert found.parameters == {
        "realm": "https://auth.example/token",
        "service": "registry.example",
        "scope": "repository:a/b:pull,push",
    }


def test_several_challenges_in_one_header_are_told_apart() -> None:
    found = parse_challenges(['Negotiate, Basic realm="a \\"b\\"", Digest realm=c, nonce="x=="'])
    assert [(each.scheme, dict(each.parameters)) for each in found] == [
        ("negotiate", {}),
        ("basic", {"realm": 'a "b"'}),
        ("digest", {"realm": "c", "nonce": "x=="}),
    ]


@given(st.lists(st.text()))
def test_no_challenge_makes_reading_fail(headers: list[str]) -> None:
    parse_challenges(headers)


@pytest.mark.parametrize(
    ("attempt", "retry_after", "delay"),
    [
        (0, "", 0.5),
        (3, "", 4.0),
        (20, "", 60.0),
        (0, "7", 7.0),
        (0, "86400", 60.0),
        (0, "Thu, 01 Jan 2026 00:00:09 GMT", 9.0),
        (0, "Wed, 31 Dec 2025 00:00:00 GMT", 0.0),
        (1, "soon", 1.0),
    ],
)
def test_the_delay_is_what_the_registry_says_within_a_minute(attempt: int, retry_after: str, delay: float) -> None:
    assert delay_s(attempt, retry_after, NOW, first_s=0.5) == delay


@given(st.integers(0, 60), st.text())
def test_every_delay_is_between_none_and_a_minute(attempt: int, retry_after: str) -> None:
    assert 0 <= delay_s(attempt, retry_after, NOW, first_s=0.5) <= 60


def test_only_what_may_pass_is_tried_again() -> None:
    assert [status for status in (400, 401, 404, 408, 429, 500, 501, 503) if is_transient(status)] == [
        408,
        429,
        500,
        503,
    ]


def test_a_refusal_says_what_where_and_why() -> None:
    body = b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{}}]}'
    error = refusal("r:5000", "pull a:1", 404, {"content-type": "application/json"}, body)
    assert str(error) == "pull a:1: r:5000 answered 404: manifest unknown"
    assert error.status == 404


def test_a_refusal_in_html_is_not_shown() -> None:
    error = refusal("r", "pull", 502, {"content-type": "text/html"}, b"<html><script>alert(1)</script></html>")
    assert str(error) == "pull: r answered 502: bad gateway"


def test_control_characters_of_a_registry_do_not_reach_the_terminal() -> None:
    assert reason_of(b'{"message":"a\\u001b[31mb\\n"}', "application/json") == "a[31mb"


@given(st.binary(), st.text())
def test_no_body_makes_reading_fail(body: bytes, content_type: str) -> None:
    assert reason_of(body, content_type).isprintable()


def _entry(digit: str, platform: Platform | None, **annotations: str) -> Descriptor:
    return Descriptor(
        media_type=MediaType.MANIFEST,
        digest="sha256:" + digit * 64,
        size=1,
        platform=platform,
        annotations={key.replace("_", "."): value for key, value in annotations.items()},
    )


INDEX = Index(
    manifests=(
        _entry("1", Platform(os="linux", architecture="arm", variant="v6")),
        _entry("2", Platform(os="linux", architecture="arm", variant="v7")),
        _entry("3", Platform(os="linux", architecture="amd64")),
        _entry("4", Platform(os="unknown", architecture="unknown"), vnd_docker_reference_type="attestation-manifest"),
        _entry("5", None),
    )
)


@pytest.mark.parametrize(
    ("wanted", "digit"),
    [
        ("linux/amd64", "3"),
        ("linux/arm", "2"),
        ("linux/arm/v6", "1"),
        ("arm", "2"),
        ("linux/x86_64", "3"),
        ("linux", "3"),
    ],
)
def test_the_entry_for_the_platform_is_chosen(wanted: str, digit: str) -> None:
    platform = parse_platform(wanted, architecture="amd64")
    assert select(INDEX, platform, subject="a").digest == "sha256:" + digit * 64


def test_a_platform_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(RegistryError, match="no matching manifest for linux/s390x") as caught:
        select(INDEX, parse_platform("linux/s390x", architecture="amd64"), subject="a")
    assert "linux/arm/v6, linux/arm/v7, linux/amd64" in caught.value.hint
    assert "unknown" not in caught.value.hint


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d"])
def test_what_is_no_platform_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="not a platform"):
        parse_platform(text, architecture="amd64")
