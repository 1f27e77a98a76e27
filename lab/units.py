"""Parse and format bytes, durations and rates; the only place where seconds, MiB and percent exist.

Inside the lab durations are integer nanoseconds and sizes are integer bytes. Sizes follow docker: the
suffixes k, m, g, t (with or without "b" or "ib") are powers of 1024.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<suffix>[kmgtp]?)(?:i?b)?", re.IGNORECASE)
_SIZE_POWER = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>ns|us|µs|ms|s|m|h)", re.IGNORECASE)
_DURATION_NS = {
    "ns": 1,
    "us": NS_PER_US,
    "µs": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3600 * NS_PER_S,
}


def parse_bytes(text: str) -> int:
    """Return the bytes that ``text`` means: "512MiB", "512m", "1.5g", "4096".

    Raises:
        ValueError: ``text`` is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not a size: {text!r} (write 512MiB, 512m, 1g or a number of bytes)")
    return int(float(match["number"]) * 1024 ** _SIZE_POWER[match["suffix"].lower()])


def parse_duration_ns(text: str) -> int:
    """Return the nanoseconds that ``text`` means: "5s", "1m30s", "250ms".

    Raises:
        ValueError: ``text`` is not a duration, or has no unit.
    """
    rest = text.strip()
    total = 0
    while rest:
        match = _DURATION.match(rest)
        if match is None:
            break
        total += int(float(match["number"]) * _DURATION_NS[match["unit"].lower()])
        rest = rest[match.end() :].strip()
    if rest or not text.strip():
        raise ValueError(f"not a duration: {text!r} (write 5s, 250ms or 1m30s)")
    return total


def format_bytes(size_bytes: float) -> str:
    """Return ``size_bytes`` with three significant digits and a binary unit: "1.50 MiB"."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{_three_digits(size)} {unit}"
        size /= 1024
    return f"{_three_digits(size)} TiB"


def format_duration_ns(duration_ns: float) -> str:
    """Return ``duration_ns`` with three significant digits in ns, µs, ms or s; from 2 minutes on "3m20s"."""
    magnitude = abs(duration_ns)
    if magnitude >= 120 * NS_PER_S:
        minutes, seconds = divmod(round(magnitude / NS_PER_S), 60)
        return f"{'-' if duration_ns < 0 else ''}{minutes}m{seconds:02d}s"
    for unit, divisor in (("s", NS_PER_S), ("ms", NS_PER_MS), ("µs", NS_PER_US)):
        if magnitude >= divisor:
            return f"{_three_digits(duration_ns / divisor)} {unit}"
    return f"{duration_ns:.0f} ns"


class Nanoseconds(int):
    """A duration in nanoseconds that is a number as JSON, and Go's text of a ``time.Duration`` as a text: "1m5s"."""

    def __str__(self) -> str:
        """Return the duration as Go writes it. Source: https://pkg.go.dev/time#Duration.String."""
        magnitude, sign = abs(int(self)), "-" if self < 0 else ""
        if magnitude < NS_PER_S:
            units = (("ms", NS_PER_MS), ("µs", NS_PER_US), ("ns", 1))
            unit, divisor = next((each for each in units if magnitude >= each[1]), ("s", 1))
            return f"{sign}{_fraction(magnitude, divisor)}{unit}"
        minutes, rest = divmod(magnitude, 60 * NS_PER_S)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
        return f"{sign}{clock}{_fraction(rest, NS_PER_S)}s"


def _fraction(value: int, divisor: int) -> str:
    """Return an exact quotient in as few digits as name it; ``divisor`` is a power of ten."""
    whole, rest = divmod(value, divisor)
    digits = str(rest).rjust(len(str(divisor)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{digits}" if digits else str(whole)


def format_rate(rate_bytes_per_s: float) -> str:
    """Return a rate in bytes per second with a binary unit: "1.50 MiB/s"."""
    return format_bytes(rate_bytes_per_s) + "/s"


def format_percent(ratio: float) -> str:
    """Return a ratio as a percentage with at most one decimal: 0.125 -> "12.5 %"."""
    return f"{ratio * 100:.3g} %"


def format_count(count: float) -> str:
    """Return a count with its thousands set apart: "1,234"."""
    return f"{count:,.0f}"


def format_per_second(rate_per_s: float) -> str:
    """Return a rate of events with three significant digits, or all of its whole ones: "1,234 /s", "0.52 /s"."""
    return f"{rate_per_s:,.0f} /s" if rate_per_s >= 100 else f"{rate_per_s:.3g} /s"


_WRITERS: Mapping[str, Callable[[float], str]] = {
    "ns": format_duration_ns,
    "bytes": format_bytes,
    "bytes_per_s": format_rate,
    "per_s": format_per_second,
    "count": format_count,
    "ratio": format_percent,
}


def writer(unit: str) -> Callable[[float], str]:
    """Return what writes values of a unit, named as in the records: "ns", "bytes_per_s".

    Raises:
        KeyError: there is no such unit.
    """
    return _WRITERS[unit]


def _three_digits(value: float) -> str:
    magnitude = abs(value)
    if magnitude >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if magnitude >= 10 else f"{value:.2f}"


_DECIMAL_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def format_decimal_bytes(size_bytes: float, *, digits: int = 3) -> str:
    """Return a size as docker's lists write it: "122MB", in powers of 1000.

    Source: https://pkg.go.dev/github.com/docker/go-units#HumanSizeWithPrecision.
    """
    unit = 0
    while size_bytes >= 1000 and unit < len(_DECIMAL_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    return f"{size_bytes:.{digits}g}{_DECIMAL_UNITS[unit]}"


_BINARY_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def format_binary_bytes(size_bytes: float) -> str:
    """Return an amount of memory as docker's lists write it: "23.54GiB", with four digits, in powers of 1024.

    Source: https://pkg.go.dev/github.com/docker/go-units#BytesSize.
    """
    unit = 0
    while size_bytes >= 1024 and unit < len(_BINARY_UNITS) - 1:
        size_bytes /= 1024
        unit += 1
    return f"{size_bytes:.4g}{_BINARY_UNITS[unit]}"


def format_age_ns(age_ns: int) -> str:
    """Return how long ago something was as docker's lists write it: "About an hour", "3 weeks".

    Source: https://pkg.go.dev/github.com/docker/go-units#HumanDuration.
    """
    seconds = max(age_ns, 0) // NS_PER_S
    minutes, hours = seconds // 60, (max(age_ns, 0) + 1800 * NS_PER_S) // (3600 * NS_PER_S)
    for limit, count, unit in (
        (seconds < 60, seconds, "second"),
        (minutes < 60, minutes, "minute"),
        (hours < 48, hours, "hour"),
        (hours < 24 * 7 * 2, hours // 24, "day"),
        (hours < 24 * 30 * 2, hours // 24 // 7, "week"),
        (hours < 24 * 365 * 2, hours // 24 // 30, "month"),
    ):
        if limit:
            return _AGES.get((count, unit)) or f"{count} {unit}s"
    return f"{seconds // 3600 // 24 // 365} years"


_AGES = {
    (0, "second"): "Less than a second",
    (1, "second"): "1 second",
    (1, "minute"): "About a minute",
    (1, "hour"): "About an hour",
}
