"""Waits until a reading of memory stands still: what has just started is still being paged in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from lab.bench.workloads.protocol import Clock

Reading = TypeVar("Reading")

_SETTLED_RATIO = 0.005


def settled(
    read: Callable[[], Reading], level: Callable[[Reading], float], *, clock: Clock, deadline_ns: int
) -> Reading:
    """Return the reading whose ``level`` moved by less than half a percent, or the last one before the deadline.

    A reading walks the page tables of every process: the readings themselves are the pace.
    """
    before = read()
    while True:
        after = read()
        if abs(level(after) - level(before)) <= _SETTLED_RATIO * level(after) or clock() > deadline_ns:
            return after
        before = after
