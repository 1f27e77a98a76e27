"""Memory against the number of instances: the slope is the density, the intercept the fixed cost; never total/N.

The slope is Theil-Sen's: one reading spoilt by something else on the host does not tilt it.
Source: Sen 1968, "Estimates of the regression coefficient based on Kendall's tau".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.bench.stats.bootstrap import RESAMPLES, Interval
from lab.bench.stats.estimate import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """A fitted line: ``slope`` per instance, ``intercept`` for none, in the unit of the readings."""

    slope: Interval
    intercept: Interval


def fit(instances: Sequence[float], readings: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> Density:
    """Return the line through readings at different numbers of instances, with bootstrap percentile intervals.

    Raises:
        ValueError: fewer than 3 readings, or all at one number of instances.
    """
    x, y = np.asarray(instances, dtype=np.float64), np.asarray(readings, dtype=np.float64)
    if x.size != y.size or x.size < 3 or np.ptp(x) == 0:
        raise ValueError("a slope needs 3 readings, at more than one number of instances")
    slope, intercept = _line(x, y)
    lines = np.array(_resampled_lines(x, y, seed))
    tail = (1 - confidence) / 2
    ends = np.quantile(lines, [tail, 1 - tail], axis=0)
    return Density(
        slope=_interval(slope, ends[:, 0], confidence, x.size),
        intercept=_interval(intercept, ends[:, 1], confidence, x.size),
    )


def _interval(estimate: float, ends: FloatArray, confidence: float, count: int) -> Interval:
    low, high = float(ends[0]), float(ends[1])
    return Interval(estimate=estimate, low=low, high=high, confidence=confidence, count=count)


def _resampled_lines(x: FloatArray, y: FloatArray, seed: int) -> list[tuple[float, float]]:
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(RESAMPLES // 4):
        chosen = rng.integers(0, x.size, size=x.size)
        if np.ptp(x[chosen]) > 0:
            lines.append(_line(x[chosen], y[chosen]))
    return lines


def _line(x: FloatArray, y: FloatArray) -> tuple[float, float]:
    first, second = np.triu_indices(x.size, k=1)
    apart = x[second] != x[first]
    slopes = (y[second] - y[first])[apart] / (x[second] - x[first])[apart]
    slope = float(np.median(slopes))
    return slope, float(np.median(y - slope * x))
