"""How values, quantities and line numbers are written on a page; every number gets its unit here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from lab.bench.model import Better, Unit
from lab.target.spec import MarkName
from lab.units import writer

Write = Callable[[float], str]

PHASES: Mapping[str, str] = {
    MarkName.SPAWNED: "program exists",
    MarkName.NAMESPACES: "namespaces",
    MarkName.ENVIRONMENT: "root and devices",
    MarkName.KERNEL: "guest kernel entered",
    MarkName.USERSPACE: "payload executed",
    MarkName.READY: "payload ready",
}
"""What a phase is called: it is named for the mark that ends it."""

UNSPLIT = "up to ready, not split"
"""What the last phase is called where nothing before it was marked but the program's existence."""

VIEWS: Mapping[str, str] = {
    "pss": "PSS",
    "pss_anon": "PSS, anonymous",
    "pss_file": "PSS, files",
    "pss_shmem": "PSS, shared memory",
    "uss": "USS",
    "rss": "RSS",
    "cgroup": "cgroup, total",
    "cgroup_working_set": "cgroup, less inactive file",
    "host_available_drop": "drop of the host's MemAvailable",
    "host_available": "the host's MemAvailable",
    "guest_used": "the guest's own view",
}
"""Views of memory in the order of the page; a view that is not listed follows under its own name."""

PARTS = frozenset({"pss_anon", "pss_file", "pss_shmem"})
"""Views that are parts of another: they explain it, and no claim is judged by them a second time."""

PLACES: Mapping[str, str] = {
    "layer": "container layer or root disk",
    "data": "volume or data disk",
    "bind": "bind mount",
}


def tick(unit: Unit) -> Write:
    """Return the function that writes round values at an axis: "2 ms", not "2.00 ms"."""
    write = writer(unit)
    return lambda value: _trimmed(write(value))


def _trimmed(text: str) -> str:
    figure, space, unit = text.partition(" ")
    return figure.rstrip("0").rstrip(".") + space + unit if "." in figure else text


def view_name(view: str) -> str:
    """Return what a view of memory is called."""
    return VIEWS.get(view, view.replace("_", " "))


def labels_in_words(labels: Sequence[tuple[str, str]]) -> str:
    """Return a sample's labels for a title: "randread, depth 1, p50, volume or data disk"."""
    return ", ".join(_label(key, value) for key, value in sorted(labels, key=lambda pair: _LABEL_ORDER.get(pair[0], 9)))


_LABEL_ORDER = {"daemon": -1, "view": 0, "pattern": 1, "percentile": 2, "io_depth": 3, "place": 4}


def _label(key: str, value: str) -> str:
    match key:
        case "view":
            return view_name(value)
        case "io_depth":
            return f"queue depth {value}"
        case "percentile":
            return f"p{value.removeprefix('p')}"
        case "place":
            return PLACES.get(value, value)
        case "instances":
            return plural(int(value), "instance")
        case "direction":
            return f"going {value}"
        case "stopped_by":
            return f"stopped by the {'number asked for' if value == 'instances' else value}"
        case "clock":
            return f"{value}'s clock"
        case _:
            return value


def span(lines: Sequence[int]) -> str:
    """Return line numbers with runs joined: (2, 3, 4, 9) is "2-4, 9"."""
    parts: list[list[int]] = []
    for line in sorted(set(lines)):
        if parts and line == parts[-1][-1] + 1:
            parts[-1].append(line)
        else:
            parts.append([line])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def joined(items: Sequence[str], last: str = "and") -> str:
    """Return a list as prose: "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def slug(text: str) -> str:
    """Return a text as a key for files and links: "IO latency (disk)" is "io-latency-disk"."""
    return "-".join("".join(c if c.isalnum() else " " for c in text.lower()).split())


def sentence_case(text: str) -> str:
    """Return a text with a capital at its beginning: "IO latency" stays, "memory" becomes "Memory"."""
    return text[:1].upper() + text[1:]


def direction(better: Better) -> str:
    """Return which way a metric is better: "lower is better"; "neither way is better" where that has no meaning."""
    return "neither way is better" if better is Better.NEITHER else f"{better.value} is better"


def counted(counts: Sequence[int]) -> str:
    """Return how many values each arm has: "n = 6", or "n = 5 to 6" where they differ."""
    low, high = min(counts), max(counts)
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"


def plural(number: int, noun: str) -> str:
    """Return a number with its noun: "1 trial", "12 trials"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def ratio(value: float) -> str:
    """Return a ratio with three significant digits and no exponent: "0.98", "233"."""
    if not math.isfinite(value):
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3g}"


def interval(low: float, high: float) -> str:
    """Return a 95 % interval of ratios: "[0.98, 1.04]"; an end that is not known is open."""
    return f"[{ratio(low) if low > 0 else 'open'}, {ratio(high) if math.isfinite(high) else 'open'}]"


def tick_ns(value: float) -> str:
    """Return a round duration for an axis: "200 ms"."""
    return tick(Unit.NANOSECONDS)(value)
