"""Sizes, durations and rates: what is parsed, what is refused, and how they are shown."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import units
from lab.units import Nanoseconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("512MiB", 512 * 1024**2),
        ("512m", 512 * 1024**2),
        ("512 MB", 512 * 1024**2),
        ("1.5g", 3 * 1024**3 // 2),
        ("1t", 1024**4),
        (" 7k ", 7 * 1024),
    ],
)
def test_a_size_is_read_as_docker_reads_it(text: str, size_bytes: int) -> None:
    assert units.parse_bytes(text) == size_bytes


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1x", "1 2", "1e9", "0x10", "1mm"])
def test_what_is_not_a_size_is_refused_and_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        units.parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "duration_ns"),
    [
        ("5s", 5_000_000_000),
        ("250ms", 250_000_000),
        ("1m30s", 90_000_000_000),
        ("1h 2m", 3_720_000_000_000),
        ("7ns", 7),
        ("3µs", 3_000),
        ("0.5s", 500_000_000),
    ],
)
def test_a_duration_is_read_with_its_units(text: str, duration_ns: int) -> None:
    assert units.parse_duration_ns(text) == duration_ns


@pytest.mark.parametrize("text", ["", "5", "s", "5s3", "-5s", "5 parsecs"])
def test_a_duration_without_a_unit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        units.parse_duration_ns(text)


@given(st.integers(min_value=0, max_value=2**53))
def test_a_number_of_bytes_is_itself(size_bytes: int) -> None:
    assert units.parse_bytes(str(size_bytes)) == size_bytes


@given(st.integers(min_value=0, max_value=2**60))
def test_a_shown_size_is_within_half_a_per_cent_of_the_true_one(size_bytes: int) -> None:
    shown = units.format_bytes(size_bytes)
    number, unit = shown.split()
    assert units.parse_bytes(f"{number}{unit}") == pytest.approx(size_bytes, rel=0.006)


@given(st.integers(min_value=1, max_value=10**14))
def test_a_shown_duration_is_within_half_a_per_cent_of_the_true_one(duration_ns: int) -> None:
    shown = units.format_duration_ns(duration_ns).replace(" ", "")
    assert units.parse_duration_ns(shown) == pytest.approx(duration_ns, rel=0.006)


@pytest.mark.parametrize(
    ("duration_ns", "shown"),
    [(0, "0 ns"), (999, "999 ns"), (1_500, "1.50 µs"), (12_340_000, "12.3 ms"), (200 * 10**9, "3m20s"), (-5, "-5 ns")],
)
def test_a_duration_is_shown_with_three_digits(duration_ns: int, shown: str) -> None:
    assert units.format_duration_ns(duration_ns) == shown


def test_a_rate_and_a_ratio_are_shown_with_their_units() -> None:
    assert units.format_rate(1536 * 1024) == "1.50 MiB/s"
    assert units.format_percent(0.125) == "12.5 %"


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        ("ns", 2_500_000, "2.50 ms"),
        ("bytes", 3 << 20, "3.00 MiB"),
        ("bytes_per_s", 3 << 20, "3.00 MiB/s"),
        ("per_s", 1234.0, "1,234 /s"),
        ("per_s", 0.523, "0.523 /s"),
        ("count", 1234.0, "1,234"),
        ("ratio", 0.125, "12.5 %"),
    ],
)
def test_a_value_is_written_with_its_unit(unit: str, value: float, text: str) -> None:
    assert units.writer(unit)(value) == text


@pytest.mark.parametrize(
    ("size_bytes", "digits", "text"),
    [
        (0, 3, "0B"),
        (3, 3, "3B"),
        (122082804, 3, "122MB"),
        (122082804, 4, "122.1MB"),
        (1500, 3, "1.5kB"),
        (1e9, 3, "1GB"),
    ],
)
def test_a_decimal_size_is_written_as_docker_writes_it(size_bytes: float, digits: int, text: str) -> None:
    assert units.format_decimal_bytes(size_bytes, digits=digits) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "Less than a second"),
        (0.9, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (60, "About a minute"),
        (119, "About a minute"),
        (120, "2 minutes"),
        (3600, "About an hour"),
        (3600 * 1.4, "About an hour"),
        (3600 * 47, "47 hours"),
        (3600 * 48, "2 days"),
        (3600 * 24 * 14, "2 weeks"),
        (3600 * 24 * 60, "2 months"),
        (3600 * 24 * 365 * 2, "2 years"),
    ],
)
def test_an_age_is_written_as_docker_writes_it(seconds: float, text: str) -> None:
    assert units.format_age_ns(int(seconds * units.NS_PER_S)) == text


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_500, "1.5µs"),
        (1_000_000, "1ms"),
        (1_500_000_000, "1.5s"),
        (65_000_000_000, "1m5s"),
        (3_600_000_000_000, "1h0m0s"),
        (-3_661_000_000_005, "-1h1m1.000000005s"),
    ],
)
def test_nanoseconds_are_written_as_go_writes_a_duration(duration_ns: int, text: str) -> None:
    assert f"{Nanoseconds(duration_ns)}" == str(Nanoseconds(duration_ns)) == text
    assert json.dumps(Nanoseconds(duration_ns)) == str(duration_ns)
