"""Values of two arms, paired by block, become the log ratio of each block; and back to a ratio.

Pairs are what interleaving buys: whatever slowed a block slowed both arms in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def block_values(values: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Return one value per block: the median of what the block has (a workload may give several samples)."""
    grouped: dict[int, list[float]] = {}
    for block, value in values:
        grouped.setdefault(block, []).append(value)
    return {block: _median(group) for block, group in grouped.items()}


def log_ratios(values: Mapping[int, float], baseline: Mapping[int, float]) -> tuple[float, ...]:
    """Return ln(value / baseline) of each block that has both, in order of blocks.

    Blocks with a value that is not positive are left out: a ratio to it means nothing.
    """
    shared = sorted(set(values) & set(baseline))
    pairs = ((values[block], baseline[block]) for block in shared)
    return tuple(math.log(value / base) for value, base in pairs if value > 0 and base > 0)


def as_ratio(log_ratio: float) -> float:
    """Return the ratio that a log ratio means: 0 -> 1, ln 2 -> 2."""
    return math.exp(log_ratio)


def _median(group: Sequence[float]) -> float:
    ordered = sorted(group)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
