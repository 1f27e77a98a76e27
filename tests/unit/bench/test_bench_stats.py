"""The statistics against an oracle, against their definitions, and against data whose truth is known."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lab.bench.stats import density
from lab.bench.stats.bootstrap import Interval, bca
from lab.bench.stats.estimate import P99_NEEDS, hodges_lehmann, median, summarise
from lab.bench.stats.ratio import block_values, log_ratios
from lab.bench.stats.stopping import StopReason, decide
from lab.bench.stats.verdict import (
    SMALLEST_EFFECT,
    Conclusion,
    Ratio,
    conclude,
    estimate_ratio,
    holm,
    judge,
    judge_together,
    more_blocks,
    noise_floor,
)

values = st.lists(st.floats(-100, 100, allow_nan=False), min_size=1, max_size=20)


def ratio_of(low: float, high: float, *, count: int = 20) -> Ratio:
    log = Interval(estimate=(low + high) / 2, low=low, high=high, confidence=0.95, count=count)
    return Ratio(ratio=math.exp(log.estimate), low=math.exp(low), high=math.exp(high), count=count, log=log)


@pytest.mark.parametrize("statistic", [median, hodges_lehmann])
def test_a_bca_interval_agrees_with_scipys(statistic) -> None:
    data = np.random.default_rng(3).lognormal(0, 0.5, 40)
    ours = bca(list(data), statistic, resamples=8000, seed=1)
    theirs = scipy_stats.bootstrap(
        (data,), lambda x, axis: statistic(np.moveaxis(x, axis, -1)), method="BCa", n_resamples=8000, rng=2
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.1 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.1 * width)


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    stream = random.Random(1)
    data = [stream.gauss(0, 1) for _ in range(15)]
    assert bca(data, hodges_lehmann, seed=4) == bca(data, hodges_lehmann, seed=4)
    assert bca(data, hodges_lehmann, seed=4) != bca(data, hodges_lehmann, seed=5)


def test_one_sample_tells_nothing_about_its_spread() -> None:
    interval = bca([1.0], hodges_lehmann)
    assert math.isinf(interval.half_width)


def test_samples_that_are_all_the_same_have_an_interval_of_no_width() -> None:
    interval = bca([2.0] * 8, hodges_lehmann)
    assert (interval.low, interval.estimate, interval.high) == (2.0, 2.0, 2.0)


@given(values)
def test_hodges_lehmann_is_the_median_of_all_pairwise_means(samples: list[float]) -> None:
    pairs = [(a + b) / 2 for i, a in enumerate(samples) for b in samples[i:]]
    assert float(hodges_lehmann(np.array(samples))) == pytest.approx(float(np.median(pairs)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-3, 3, allow_nan=False), min_size=5, max_size=15), st.floats(-2, 2))
def test_a_shift_of_all_samples_shifts_the_interval(samples: list[float], shift: float) -> None:
    before = bca(samples, hodges_lehmann, resamples=400)
    after = bca([sample + shift for sample in samples], hodges_lehmann, resamples=400)
    assert after.estimate == pytest.approx(before.estimate + shift, abs=1e-6)
    assert before.low <= before.high
    assert after.low <= after.high


def test_a_p99_is_given_only_from_three_hundred_samples_on() -> None:
    assert summarise([1.0] * (P99_NEEDS - 1)).p99 is None
    assert summarise([1.0] * P99_NEEDS).p99 == 1.0


def test_ratios_pair_the_blocks_that_both_arms_have() -> None:
    arm = block_values([(1, 4.0), (1, 6.0), (1, 100.0), (2, 8.0), (4, 1.0), (5, 0.0)])
    base = block_values([(1, 3.0), (2, 4.0), (3, 9.0), (5, 1.0)])
    assert log_ratios(arm, base) == pytest.approx((math.log(2), math.log(2)))


def test_a_drift_that_both_arms_share_leaves_the_ratio_sharp() -> None:
    rng = random.Random(5)
    base = {block: 10.0 * 1.1**block * rng.lognormvariate(0, 0.01) for block in range(20)}
    arm = {block: 2 * value * rng.lognormvariate(0, 0.01) for block, value in base.items()}
    ratio = estimate_ratio(log_ratios(arm, base))
    assert ratio.low < 2 < ratio.high
    assert ratio.half_width_ratio < 0.02


def test_two_identical_arms_are_hardly_ever_called_different() -> None:
    rng = random.Random(11)
    wrong = 0
    for run in range(200):
        logs = [rng.gauss(0, 0.1) for _ in range(12)]
        twin = estimate_ratio([rng.gauss(0, 0.1) for _ in range(12)], seed=run)
        wrong += judge(estimate_ratio(logs, seed=run), noise_floor(twin)).conclusion is Conclusion.DIFFERENT
    # by the band alone the rate lies far below the 5 % that a bare 95 % interval would give
    assert wrong <= 4


def test_an_effect_well_beyond_the_noise_is_called_different_every_time() -> None:
    rng = random.Random(12)
    tau = noise_floor(estimate_ratio([rng.gauss(0, 0.1) for _ in range(12)]))
    for run in range(40):
        logs = [rng.gauss(math.log(2), 0.1) for _ in range(12)]
        assert conclude(estimate_ratio(logs, seed=run), tau) is Conclusion.DIFFERENT


@pytest.mark.parametrize(
    ("low", "high", "conclusion"),
    [
        (0.06, 0.2, Conclusion.DIFFERENT),
        (-0.2, -0.06, Conclusion.DIFFERENT),
        (-0.01, 0.02, Conclusion.EQUIVALENT),
        (0.01, 0.2, Conclusion.INCONCLUSIVE),
        (-0.2, 0.2, Conclusion.INCONCLUSIVE),
    ],
)
def test_a_verdict_asks_where_the_whole_interval_lies(low: float, high: float, conclusion: Conclusion) -> None:
    assert conclude(ratio_of(low, high), SMALLEST_EFFECT) is conclusion


def test_nothing_is_concluded_from_four_blocks() -> None:
    verdict = judge(ratio_of(0.5, 0.6, count=4), SMALLEST_EFFECT)
    assert (verdict.conclusion, verdict.more_blocks) == (Conclusion.INCONCLUSIVE, 1)


def test_four_times_the_blocks_are_wanted_to_halve_an_interval() -> None:
    tau = SMALLEST_EFFECT
    ratio = ratio_of(-2 * tau, 2 * tau, count=10)
    assert more_blocks(ratio, tau) == pytest.approx(30, abs=1)


def test_an_estimate_on_the_edge_of_the_band_names_no_number_of_blocks() -> None:
    tau = SMALLEST_EFFECT
    assert more_blocks(ratio_of(tau - 0.1, tau + 0.1), tau) is None


def test_the_noise_floor_is_never_below_five_percent_and_follows_a_wilder_twin() -> None:
    assert noise_floor(None) == SMALLEST_EFFECT
    assert noise_floor(ratio_of(-0.001, 0.001)) == SMALLEST_EFFECT
    assert noise_floor(ratio_of(-0.3, 0.3)) == pytest.approx(0.3)


def test_holm_adjusts_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_makes_a_p_value_smaller_nor_changes_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(after >= before for before, after in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [adjusted[index] for index in order] == sorted(adjusted)


def test_judging_many_together_never_finds_more_than_judging_each_alone() -> None:
    ratios = [ratio_of(0.052, 0.3), ratio_of(0.3, 0.4), ratio_of(-0.2, 0.2)]
    together = judge_together(ratios, [SMALLEST_EFFECT] * 3)
    alone = [judge(ratio, SMALLEST_EFFECT) for ratio in ratios]
    for many, one in zip(together, alone, strict=True):
        assert many.conclusion is one.conclusion or many.conclusion is Conclusion.INCONCLUSIVE


def test_a_density_is_the_slope_and_not_the_total_over_n() -> None:
    rng = random.Random(6)
    counts = [1, 2, 4, 8, 16, 8, 4, 2, 1]
    readings = [50.0 + 3.0 * count + rng.gauss(0, 0.2) for count in counts]
    found = density.fit(counts, readings)
    assert found.slope.low < 3.0 < found.slope.high
    assert found.intercept.estimate == pytest.approx(50, abs=1)


def test_one_spoilt_reading_does_not_tilt_a_density() -> None:
    readings = [50.0 + 3.0 * count for count in range(1, 13)]
    readings[10] += 500
    assert density.fit(range(1, 13), readings).slope.estimate == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize(("x", "y"), [([1, 2], [1, 2]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 2])])
def test_a_density_of_too_little_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(ValueError):
        density.fit(x, y)


def stop(**changes) -> StopReason | None:
    usual = {
        "blocks_done": 10,
        "min_blocks": 5,
        "max_blocks": 30,
        "elapsed_ns": 10,
        "next_block_ns": 1,
        "budget_ns": 100,
        "half_width_ratios": (0.2,),
        "target_half_width_ratio": 0.05,
    }
    return decide(**(usual | changes))


def test_a_run_goes_on_while_an_interval_is_too_wide() -> None:
    assert stop() is None
    assert stop(half_width_ratios=(0.01, 0.06)) is None


def test_a_run_stops_when_every_interval_is_narrow_enough_and_not_before_the_minimum() -> None:
    assert stop(half_width_ratios=(0.01, 0.05)) is StopReason.HALF_WIDTH
    assert stop(half_width_ratios=(0.01,), blocks_done=4) is None


def test_a_run_without_any_ratio_does_not_claim_to_be_precise() -> None:
    assert stop(half_width_ratios=()) is None
    assert stop(half_width_ratios=(), blocks_done=30) is StopReason.BLOCKS


def test_no_more_ratios_are_asked_for_than_it_takes_to_go_on() -> None:
    asked = []

    def widths():
        for width in (0.01, 0.9, 0.01):
            asked.append(width)
            yield width

    assert stop(half_width_ratios=widths()) is None
    assert asked == [0.01, 0.9]
    asked.clear()
    assert stop(half_width_ratios=widths(), blocks_done=4) is None
    assert asked == []


def test_a_block_that_would_end_after_the_budget_is_not_begun() -> None:
    assert stop(elapsed_ns=95, next_block_ns=6) is StopReason.BUDGET
    assert stop(elapsed_ns=95, next_block_ns=5) is None


def test_a_run_ends_with_its_last_block() -> None:
    assert stop(blocks_done=30) is StopReason.BLOCKS
