"""How fast the statistics are on runs of the sizes that we have: the stop rule asks for them between trials."""

from __future__ import annotations

import random

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lab.bench.ledger import Ledger
from lab.bench.model import Arm, Primary, Run, Sample, Suite, Trial, TrialStatus, WorkloadUse
from lab.bench.schedule import Schedule, plan
from lab.bench.stats import density
from lab.bench.stats.bootstrap import bca
from lab.bench.stats.density import Readings
from lab.bench.stats.estimate import hodges_lehmann, median
from lab.bench.stats.verdict import estimate_ratio, judge_together

BLOCKS = (5, 30, 100)
"""The fewest that a verdict needs, the most of `quick`, the most of `startup`."""

ARMS = tuple(f"arm{number}" for number in range(9))


def log_ratios(count: int) -> list[float]:
    stream = random.Random(count)
    return [stream.gauss(0.2, 0.05) for _ in range(count)]


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("statistic", [median, hodges_lehmann])
def test_an_interval(benchmark: BenchmarkFixture, statistic, blocks: int) -> None:
    interval = benchmark(bca, log_ratios(blocks), statistic)

    assert interval.low < 0.2 < interval.high


@pytest.mark.parametrize("blocks", BLOCKS)
def test_a_page_of_ratios_judged_together(benchmark: BenchmarkFixture, blocks: int) -> None:
    ratios = [estimate_ratio(log_ratios(blocks)) for _ in range(40)]

    verdicts = benchmark.pedantic(judge_together, (ratios, [0.05] * len(ratios)), rounds=2)

    assert len(verdicts) == len(ratios)


def test_a_line_through_one_trial_of_density(benchmark: BenchmarkFixture) -> None:
    instances = (1, 2, 3, 4, 3, 2, 1)

    fitted = benchmark(density.fit, instances, [5.0 + 2 * count for count in instances])

    assert fitted.slope.estimate == 2


def test_a_line_through_thirty_trials_of_density(benchmark: BenchmarkFixture) -> None:
    instances = (1, 2, 3, 4, 3, 2, 1)
    trials = [Readings(instances=instances, values=[level + 2.0 * count for count in instances]) for level in range(30)]

    assert benchmark(density.pool, trials).slope.estimate == 2


@pytest.fixture(scope="module")
def half_a_run() -> tuple[Run, Schedule, list[Trial]]:
    """Return a run of four workloads on nine arms, with thirty blocks done of a hundred."""
    uses = tuple(WorkloadUse(workload=name, image="i", vcpus=1, memory_bytes=1) for name in "abcd")
    suite = Suite(
        name="s",
        title="",
        question="",
        digest="",
        arms=ARMS,
        baseline=ARMS[0],
        workloads=uses,
        warmup_blocks=1,
        min_blocks=5,
        max_blocks=100,
        budget_ns=10**15,
        target_half_width_ratio=0.05,
    )
    run = Run(
        id="r",
        schema=2,
        started_at="",
        lab_version="",
        commit="",
        seed=1,
        order="",
        suite=suite,
        arms=tuple(Arm(name=name, available=True) for name in ARMS),
        images={},
        metrics=(),
        dimensions={},
        primary=tuple(Primary(workload=use.workload, metric="wall") for use in uses),
    )
    schedule = plan(suite, seed=1, arms=ARMS)
    return run, schedule, list(_trials(schedule))


def _trials(schedule: Schedule) -> list[Trial]:
    stream = random.Random(1)
    return [
        Trial(
            cell=cell,
            kind=block.kind,
            block=block.number,
            position=position,
            status=TrialStatus.OK,
            started_at="",
            samples=(Sample(metric="wall", value=stream.lognormvariate(10, 0.1)),),
            wall_ns=10**9,
        )
        for block in schedule.blocks[:31]
        for position, cell in enumerate(block.cells)
    ]


def test_a_resumed_run_takes_its_records_in(
    benchmark: BenchmarkFixture, half_a_run: tuple[Run, Schedule, list[Trial]]
) -> None:
    run, schedule, trials = half_a_run

    assert benchmark(Ledger, run, schedule, trials).blocks_done == 30


def test_the_stop_rule_when_every_ratio_is_precise(
    benchmark: BenchmarkFixture, half_a_run: tuple[Run, Schedule, list[Trial]]
) -> None:
    run, schedule, trials = half_a_run

    ledger = Ledger(run, schedule, trials)

    widths = benchmark(lambda: list(ledger.half_widths()))

    assert len(widths) == 4 * 8


def test_the_time_that_is_left_before_a_trial(
    benchmark: BenchmarkFixture, half_a_run: tuple[Run, Schedule, list[Trial]]
) -> None:
    run, schedule, trials = half_a_run
    ledger = Ledger(run, schedule, trials)

    assert benchmark(ledger.left_ns, schedule.blocks[31], elapsed_ns=0) == 70 * 40 * 10**9
