"""Where the centre of some samples lies, and their percentiles; never a mean.

Source: Hodges and Lehmann 1963, "Estimates of location based on rank tests"; Hyndman and Fan 1996, definition 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

P99_NEEDS = 300
"""Below so many samples the 99th percentile is one of the three highest values, and says nothing."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How one arm's samples lie, in their own unit; ``p99`` is None where there are too few for one."""

    count: int
    median: float
    p10: float
    p90: float
    minimum: float
    maximum: float
    p99: float | None


def summarise(samples: Sequence[float]) -> Summary:
    """Return the percentiles of samples.

    Raises:
        ValueError: there are none.
    """
    if not samples:
        raise ValueError("no samples")
    p10, median, p90 = (float(value) for value in np.percentile(samples, [10, 50, 90]))
    return Summary(
        count=len(samples),
        median=median,
        p10=p10,
        p90=p90,
        minimum=float(min(samples)),
        maximum=float(max(samples)),
        p99=float(np.percentile(samples, 99)) if len(samples) >= P99_NEEDS else None,
    )


def median(samples: FloatArray) -> FloatArray:
    """Return the median along the last axis."""
    return np.asarray(np.median(samples, axis=-1), dtype=np.float64)


def hodges_lehmann(samples: FloatArray) -> FloatArray:
    """Return the median of all pairwise means along the last axis (each sample with itself included).

    As robust as the median against a wild sample or two, but nearly as sharp as the mean where there are none.
    """
    count = samples.shape[-1]
    first, second = np.triu_indices(count)
    means = (samples[..., first] + samples[..., second]) / 2
    return np.asarray(np.median(means, axis=-1), dtype=np.float64)
