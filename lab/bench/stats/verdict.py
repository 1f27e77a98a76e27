"""Ratios become verdicts: different, equivalent or inconclusive; judged against the noise floor of the run itself.

The noise floor τ is what the A/A twin shows (the half-width of its interval, and how far it lies from 1), and never
less than 5 %.
Source: Schuirmann 1987 for equivalence by an interval inside ±τ; Holm 1979 for many metrics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from lab.bench.stats.bootstrap import Interval, bca
from lab.bench.stats.estimate import hodges_lehmann

SMALLEST_EFFECT = math.log(1.05)
"""No difference below 5 % is called one, however sure the numbers seem: what lies below it is beyond one machine."""

FEWEST_BLOCKS = 5
"""With fewer blocks than this a bootstrap interval has too little to draw from, and nothing is concluded."""

_NORMAL = NormalDist()


class Conclusion(StrEnum):
    """What an interval says about a ratio."""

    DIFFERENT = "different"
    EQUIVALENT = "equivalent"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """A ratio to the baseline with its 95 % interval over blocks; ``count`` is the blocks it rests on."""

    ratio: float
    low: float
    high: float
    count: int
    log: Interval

    @property
    def half_width_ratio(self) -> float:
        """Half the interval's width as a share of the ratio: 0.05 means ±5 %; infinite where nothing is known."""
        return math.inf if math.isinf(self.log.half_width) else math.expm1(self.log.half_width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is concluded of a ratio, against which noise floor, and how many more blocks would settle it.

    ``noise_floor_ratio`` is τ as a share (0.05: ±5 %); ``more_blocks`` is 0 when it is settled, None when
    no number of blocks can be named.
    """

    conclusion: Conclusion
    noise_floor_ratio: float
    more_blocks: int | None = 0


def estimate_ratio(log_ratios: Sequence[float], *, confidence: float = 0.95, seed: int = 0) -> Ratio:
    """Return the Hodges-Lehmann ratio and its BCa interval over blocks.

    Raises:
        ValueError: there is no block that has both arms.
    """
    interval = bca(log_ratios, hodges_lehmann, confidence=confidence, seed=seed)
    return Ratio(
        ratio=math.exp(interval.estimate),
        low=math.exp(interval.low),
        high=_exp(interval.high),
        count=interval.count,
        log=interval,
    )


def noise_floor(twin: Ratio | None) -> float:
    """Return τ as a log ratio, from the A/A twin of the run; only the smallest effect where there was no twin."""
    if twin is None or math.isinf(twin.log.half_width):
        return SMALLEST_EFFECT
    return max(SMALLEST_EFFECT, twin.log.half_width)


def judge(ratio: Ratio, tau: float) -> Verdict:
    """Return what ``ratio`` says, with τ as a log ratio: different only wholly outside ±τ, equivalent only inside."""
    return Verdict(
        conclusion=conclude(ratio, tau),
        noise_floor_ratio=math.expm1(tau),
        more_blocks=more_blocks(ratio, tau),
    )


def conclude(ratio: Ratio, tau: float) -> Conclusion:
    """Return the conclusion alone."""
    if ratio.count < FEWEST_BLOCKS:
        return Conclusion.INCONCLUSIVE
    if ratio.log.low > tau or ratio.log.high < -tau:
        return Conclusion.DIFFERENT
    if -tau < ratio.log.low and ratio.log.high < tau:
        return Conclusion.EQUIVALENT
    return Conclusion.INCONCLUSIVE


def more_blocks(ratio: Ratio, tau: float) -> int | None:
    """Return about how many more blocks would settle the verdict, if the estimate stays where it is.

    The half-width shrinks with the root of the number of blocks; it must become smaller than the way from the
    estimate to the nearer edge of the band. None: the estimate lies on that edge.
    """
    if ratio.count < FEWEST_BLOCKS:
        return FEWEST_BLOCKS - ratio.count
    if conclude(ratio, tau) is not Conclusion.INCONCLUSIVE:
        return 0
    room = abs(abs(ratio.log.estimate) - tau)
    if room < tau / 100:
        return None
    wanted = math.ceil(ratio.count * (ratio.log.half_width / room) ** 2)
    return max(1, wanted - ratio.count)


def p_value(ratio: Ratio) -> float:
    """Return a two-sided p-value that the ratio is 1, from the interval by normal approximation; for Holm only."""
    width = ratio.log.half_width
    if math.isinf(width):
        return 1.0
    if width == 0:
        return 0.0 if ratio.log.estimate else 1.0
    z = _NORMAL.inv_cdf(0.5 + ratio.log.confidence / 2)
    return 2 * (1 - _NORMAL.cdf(abs(ratio.log.estimate) / (width / z)))


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Return the p-values adjusted for having been looked at together, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = highest
    return tuple(adjusted)


def judge_together(ratios: Sequence[Ratio], taus: Sequence[float], *, alpha: float = 0.05) -> tuple[Verdict, ...]:
    """Return the verdicts of many metrics judged at once: "different" must also hold after Holm's correction."""
    adjusted = holm([p_value(ratio) for ratio in ratios])
    verdicts = []
    for ratio, tau, p in zip(ratios, taus, adjusted, strict=True):
        verdict = judge(ratio, tau)
        if verdict.conclusion is Conclusion.DIFFERENT and p > alpha:
            verdict = Verdict(
                conclusion=Conclusion.INCONCLUSIVE, noise_floor_ratio=verdict.noise_floor_ratio, more_blocks=None
            )
        verdicts.append(verdict)
    return tuple(verdicts)


def _exp(value: float) -> float:
    return math.inf if value > 700 else math.exp(value)
