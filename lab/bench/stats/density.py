"""Memory against the number of instances: the slope is the density, the intercept the fixed cost; never total/N.

The slope is Theil-Sen's: one reading spoilt by something else on the host does not tilt it.
Source: Sen 1968, "Estimates of the regression coefficient based on Kendall's tau".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.bench.stats.bootstrap import RESAMPLES, Interval
from lab.bench.stats.estimate import FloatArray

IntArray = NDArray[np.int64]
Line = tuple[float, float]
Lines = tuple[FloatArray, FloatArray]
"""Slope and intercept, of one line or of many."""

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
    chosen = np.random.default_rng(seed).integers(0, x.size, size=(_LINES, x.size))
    chosen = chosen[np.ptp(x[chosen], axis=-1) > 0]
    slope, intercept = _lines(x[np.newaxis], y[np.newaxis])
    return _density((slope[0], intercept[0]), _lines(x[chosen], y[chosen]), confidence, x.size)


def pool(trials: Sequence[Readings], *, confidence: float = 0.95, seed: int = 0) -> Density:
    """Return the line that all trials of an arm share, with bootstrap percentile intervals over trials.

    Slopes are taken within trials only: the host's level of memory may differ between them, that is no density. The
    intercept is the median of those that the trials have with the common slope.

    Raises:
        ValueError: no trial, or one of them has fewer than 3 readings, or all at one number of instances.
    """
    if not trials:
        raise ValueError("no trials")
    x, y = _padded([_checked(trial.instances, trial.values) for trial in trials])
    slopes = _slopes(x, y)
    chosen = np.random.default_rng(seed).integers(0, len(trials), size=(_LINES, len(trials)))
    slope, intercept = _common_lines(x, y, slopes, np.arange(len(trials))[np.newaxis])
    lines = _common_lines(x, y, slopes, chosen)
    if len(trials) == 1:  # one trial tells nothing about how trials differ
        lines = (np.array([-np.inf, np.inf]), np.array([-np.inf, np.inf]))
    return _density((slope[0], intercept[0]), lines, confidence, len(trials))


def _padded(points: Sequence[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    """Return one row for each trial; what a trial has less than the longest is NaN."""
    longest = max(x.size for x, _ in points)
    rows = [[np.pad(values, (0, longest - values.size), constant_values=np.nan) for values in pair] for pair in points]
    return np.array([x for x, _ in rows]), np.array([y for _, y in rows])


def _checked(instances: Sequence[float], readings: Sequence[float]) -> tuple[FloatArray, FloatArray]:
    x, y = np.asarray(instances, dtype=np.float64), np.asarray(readings, dtype=np.float64)
    if x.size != y.size or x.size < 3 or np.ptp(x) == 0:
        raise ValueError("a slope needs 3 readings, at more than one number of instances")
    return x, y


def _density(line: Line, lines: Lines, confidence: float, count: int) -> Density:
    tail = (1 - confidence) / 2
    # of infinite ends there is no quantile to interpolate
    ends = (np.quantile(values, [tail, 1 - tail], method="inverted_cdf") for values in lines)
    slope, intercept = (
        Interval(estimate=float(estimate), low=float(low), high=float(high), confidence=confidence, count=count)
        for estimate, (low, high) in zip(line, ends, strict=True)
    )
    return Density(slope=slope, intercept=intercept)


def _lines(x: FloatArray, y: FloatArray) -> Lines:
    """Return the line through the points of each row."""
    slope = np.nanmedian(_slopes(x, y), axis=-1)
    return slope, np.median(y - slope[..., np.newaxis] * x, axis=-1)


def _common_lines(x: FloatArray, y: FloatArray, slopes: FloatArray, chosen: IntArray) -> Lines:
    """Return, for each row of ``chosen`` trials, the line that they share."""
    slope = np.nanmedian(slopes[chosen].reshape(len(chosen), -1), axis=-1)
    intercepts = np.nanmedian(y[chosen] - slope[:, np.newaxis, np.newaxis] * x[chosen], axis=-1)
    return slope, np.median(intercepts, axis=-1)


def _slopes(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the slopes between all pairs of points of each row; NaN where there is none."""
    first, second = np.triu_indices(x.shape[-1], k=1)
    run, rise = x[..., second] - x[..., first], y[..., second] - y[..., first]
    slopes: FloatArray = np.full(run.shape, np.nan)
    np.divide(rise, run, out=slopes, where=(run != 0) & ~np.isnan(run))
    return slopes
