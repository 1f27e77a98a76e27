"""BCa bootstrap intervals: bias-corrected and accelerated, with our own seeded stream.

Source: Efron 1987, "Better bootstrap confidence intervals", J. Am. Stat. Assoc. 82, 171-185.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from lab.bench.stats.estimate import FloatArray

Statistic = Callable[[FloatArray], FloatArray]
"""Takes samples along the last axis and returns the statistic of each row."""

RESAMPLES = 4000
_NORMAL = NormalDist()
_CHUNK_VALUES = 4_000_000  # keeps the matrix of pairwise means of one chunk at 32 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval, in the unit of the samples."""

    estimate: float
    low: float
    high: float
    confidence: float
    count: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2


def bca(
    samples: Sequence[float],
    statistic: Statistic,
    *,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return the statistic of ``samples`` and its BCa interval; all infinite in width with fewer than 2 samples.

    Raises:
        ValueError: there are no samples.
    """
    data = np.asarray(samples, dtype=np.float64)
    if data.size == 0:
        raise ValueError("no samples")
    estimate = float(statistic(data))
    if data.size < 2:
        return Interval(estimate=estimate, low=-np.inf, high=np.inf, confidence=confidence, count=1)
    replicates = _replicates(data, statistic, resamples, seed)
    levels = _levels(data, statistic, estimate, replicates, confidence)
    low, high = (float(value) for value in np.quantile(replicates, levels))
    return Interval(estimate=estimate, low=low, high=high, confidence=confidence, count=int(data.size))


def _replicates(data: FloatArray, statistic: Statistic, resamples: int, seed: int) -> FloatArray:
    rng = np.random.default_rng(seed)
    rows = max(1, _CHUNK_VALUES // (data.size * (data.size + 1) // 2))
    parts = []
    for begin in range(0, resamples, rows):
        indices = rng.integers(0, data.size, size=(min(rows, resamples - begin), data.size))
        parts.append(statistic(data[indices]))
    return np.concatenate(parts)


def _levels(
    data: FloatArray, statistic: Statistic, estimate: float, replicates: FloatArray, confidence: float
) -> tuple[float, float]:
    """Return the quantiles of the replicates at which the interval's ends lie."""
    bias = _bias(estimate, replicates)
    acceleration = _acceleration(data, statistic)
    tail = (1 - confidence) / 2
    low, high = (_level(_NORMAL.inv_cdf(level), bias, acceleration) for level in (tail, 1 - tail))
    return low, high


def _level(z: float, bias: float, acceleration: float) -> float:
    shifted = bias + z
    return _NORMAL.cdf(bias + shifted / (1 - acceleration * shifted))


def _bias(estimate: float, replicates: FloatArray) -> float:
    # replicates that equal the estimate count half: a median has many of them when samples are few
    below = np.mean(replicates < estimate) + np.mean(replicates == estimate) / 2
    edge = 0.5 / replicates.size
    return _NORMAL.inv_cdf(float(np.clip(below, edge, 1 - edge)))


def _acceleration(data: FloatArray, statistic: Statistic) -> float:
    without = np.stack([np.delete(data, index) for index in range(data.size)])
    jackknife = statistic(without)
    deviations = jackknife.mean() - jackknife
    spread = float(np.sum(deviations**2)) ** 1.5
    # samples that are all the same have no skew to correct for
    return 0.0 if spread == 0 else float(np.sum(deviations**3)) / (6 * spread)
