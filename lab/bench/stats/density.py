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

Line = tuple[float, float]
"""Slope and intercept."""

_LINES = RESAMPLES // 4

FEWEST_INSTANCES = 3
"""With fewer numbers of instances than this there is no telling a line from anything else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """A fitted line: ``slope`` per instance, ``intercept`` for none, in the unit of the readings."""

    slope: Interval
    intercept: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What one trial read: ``values`` at ``instances``, pair by pair."""

    instances: Sequence[float]
    values: Sequence[float]


def fit(instances: Sequence[float], readings: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> Density:
    """Return the line through readings at different numbers of instances, with bootstrap percentile intervals.

    Raises:
        ValueError: fewer than 3 readings, or all at one number of instances.
    """
    x, y = _checked(instances, readings)
    rng = np.random.default_rng(seed)
    chosen = (rng.integers(0, x.size, size=x.size) for _ in range(_LINES))
    lines = [_line(x[rows], y[rows]) for rows in chosen if np.ptp(x[rows]) > 0]
    return _density(_line(x, y), lines, confidence, x.size)


def pool(trials: Sequence[Readings], *, confidence: float = 0.95, seed: int = 0) -> Density:
    """Return the line that all trials of an arm share, with bootstrap percentile intervals over trials.

    Slopes are taken within trials only: the host's level of memory may differ between them, that is no density. The
    intercept is the median of those that the trials have with the common slope.

    Raises:
        ValueError: no trial, or one of them has fewer than 3 readings, or all at one number of instances.
    """
    points = [_checked(trial.instances, trial.values) for trial in trials]
    if not points:
        raise ValueError("no trials")
    slopes = [_slopes(x, y) for x, y in points]
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(_LINES):
        rows = rng.integers(0, len(points), size=len(points))
        lines.append(_common_line([points[row] for row in rows], [slopes[row] for row in rows]))
    if len(points) == 1:  # one trial tells nothing about how trials differ
        lines = [(-np.inf, -np.inf), (np.inf, np.inf)]
    return _density(_common_line(points, slopes), lines, confidence, len(points))


def _checked(instances: Sequence[float], readings: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(instances, dtype=np.float64), np.asarray(readings, dtype=np.float64)
    if x.size != y.size or x.size < 3 or np.ptp(x) == 0:
        raise ValueError("a slope needs 3 readings, at more than one number of instances")
    return x, y


def _density(line: Line, lines: Sequence[Line], confidence: float, count: int) -> Density:
    tail = (1 - confidence) / 2
    # of infinite ends there is no quantile to interpolate
    ends = np.quantile(np.array(lines), [tail, 1 - tail], axis=0, method="inverted_cdf")
    slope, intercept = (
        Interval(
            estimate=line[column],
            low=float(ends[0, column]),
            high=float(ends[1, column]),
            confidence=confidence,
            count=count,
        )
        for column in (0, 1)
    )
    return Density(slope=slope, intercept=intercept)


def _line(x: FloatArray, y: FloatArray) -> Line:
    return _common_line([(x, y)], [_slopes(x, y)])


def _common_line(points: Sequence[tuple[FloatArray, FloatArray]], slopes: Sequence[FloatArray]) -> Line:
    slope = float(np.median(np.concatenate(slopes)))
    return slope, float(np.median([np.median(y - slope * x) for x, y in points]))


def _slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    first, second = np.triu_indices(x.size, k=1)
    apart = x[second] != x[first]
    return np.asarray((y[second] - y[first])[apart] / (x[second] - x[first])[apart], dtype=np.float64)
