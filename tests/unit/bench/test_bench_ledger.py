"""What follows from the trials so far: what is left to do, what is hopeless, how long it takes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bench.ledger import FAILURES_IN_A_ROW, Ledger
from lab.bench.model import (
    Arm,
    Cell,
    GivenUp,
    Primary,
    Run,
    Sample,
    Suite,
    Trial,
    TrialKind,
    TrialStatus,
    WorkloadUse,
)
from lab.bench.schedule import Block, Schedule, plan

BASE = Cell(workload="startup", arm="base")
OTHER = Cell(workload="startup", arm="other")
SECOND = 1_000_000_000

SUITE = Suite(
    name="s",
    title="",
    question="",
    digest="",
    arms=("base", "other"),
    baseline="base",
    workloads=(WorkloadUse(workload="startup", image="i", vcpus=1, memory_bytes=1),),
    warmup_blocks=1,
    min_blocks=2,
    max_blocks=6,
    budget_ns=100 * SECOND,
    target_half_width_ratio=0.05,
)
RUN = Run(
    id="r",
    schema=2,
    started_at="",
    lab_version="",
    commit="",
    seed=1,
    order="",
    suite=SUITE,
    arms=(Arm(name="base", available=True), Arm(name="other", available=True)),
    images={},
    metrics=(),
    dimensions={},
    primary=(Primary(workload="startup", metric="startup_wall"),),
)
PLAN: Schedule = plan(SUITE, seed=1, arms=SUITE.arms)


def trial(block: Block, position: int, *, failing: tuple[Cell, ...] = (), wall_ns: int = SECOND) -> Trial:
    cell = block.cells[position]
    failed = cell in failing
    return Trial(
        cell=cell,
        kind=block.kind,
        block=block.number,
        position=position,
        status=TrialStatus.FAILED if failed else TrialStatus.OK,
        started_at="",
        samples=() if failed else (Sample(metric="startup_wall", value=100.0 + block.number),),
        error="no such program" if failed else "",
        wall_ns=wall_ns,
    )


def trials_of(blocks: int, *, failing: tuple[Cell, ...] = ()) -> list[Trial]:
    return [
        trial(block, position, failing=failing)
        for block in PLAN.blocks[:blocks]
        for position in range(len(block.cells))
    ]


def ledger_of(trials: list[Trial], given_up: tuple[GivenUp, ...] = ()) -> Ledger:
    return Ledger(RUN, PLAN, trials, given_up)


def test_a_cell_that_fails_three_times_in_a_row_is_given_up_once_with_its_last_reason() -> None:
    ledger = ledger_of(trials_of(FAILURES_IN_A_ROW, failing=(OTHER,)))

    (record,) = ledger.newly_hopeless(at="now")

    assert record.cell == OTHER
    assert record.failures == FAILURES_IN_A_ROW
    assert record.block == FAILURES_IN_A_ROW - 1
    assert "no such program" in record.reason
    assert ledger.newly_hopeless(at="later") == ()


def test_a_success_between_failures_keeps_a_cell() -> None:
    trials = [
        trial(block, position, failing=() if block.number == 2 else (OTHER,))
        for block in PLAN.blocks[:5]
        for position in range(3)
    ]

    assert ledger_of(trials).newly_hopeless(at="now") == ()


def test_a_cell_that_was_given_up_is_not_due_after_a_resume_and_blocks_are_whole_without_it() -> None:
    before = trials_of(3, failing=(OTHER,))
    given_up = GivenUp(cell=OTHER, block=2, failures=3, reason="it failed", at="")

    ledger = ledger_of(before, (given_up,))

    fourth = PLAN.blocks[3]
    assert OTHER not in [cell for _, cell in ledger.due(fourth)]
    for position, _ in ledger.due(fourth):
        ledger.enter(trial(fourth, position))
    assert ledger.due(fourth) == ()
    assert ledger.blocks_done == 3


def test_a_run_is_hopeless_only_when_all_of_its_cells_are() -> None:
    cells = PLAN.blocks[0].cells
    failing = ledger_of(trials_of(3, failing=cells))
    partly = ledger_of(trials_of(3, failing=cells[:-1]))

    assert len(failing.newly_hopeless(at="")) == len(cells)
    partly.newly_hopeless(at="")
    assert failing.is_hopeless
    assert not partly.is_hopeless


def test_an_interrupted_trial_is_still_to_do() -> None:
    block = PLAN.blocks[0]
    cut = Trial(
        cell=block.cells[0],
        kind=block.kind,
        block=0,
        position=0,
        status=TrialStatus.INTERRUPTED,
        started_at="",
        wall_ns=SECOND,
    )

    assert (0, block.cells[0]) in ledger_of([cut]).due(block)


def test_the_time_that_is_left_is_known_right_after_a_resume() -> None:
    ledger = ledger_of(trials_of(2))

    assert ledger.expected_ns(PLAN.blocks[2].cells) == 3 * SECOND
    # 5 blocks of 3 trials, each of a second
    assert ledger.left_ns(PLAN.blocks[2], elapsed_ns=0) == 15 * SECOND
    assert ledger.left_ns(PLAN.blocks[2], elapsed_ns=90 * SECOND) == 10 * SECOND


def test_the_time_that_is_left_is_not_guessed_before_every_cell_was_seen() -> None:
    assert ledger_of(trials_of(1)[:2]).left_ns(PLAN.blocks[0], elapsed_ns=0) is None


def test_a_cell_that_was_given_up_takes_no_more_time() -> None:
    ledger = ledger_of(trials_of(3, failing=(OTHER,)))
    ledger.newly_hopeless(at="")

    assert ledger.expected_ns(PLAN.blocks[3].cells) == 2 * SECOND


def test_a_ratio_that_is_not_there_yet_is_infinitely_wide_and_one_that_cannot_come_is_absent() -> None:
    failing = ledger_of(trials_of(3, failing=(OTHER,)))

    assert list(failing.half_widths()) == [math.inf]
    failing.newly_hopeless(at="")
    assert list(failing.half_widths()) == []


def test_nothing_is_compared_with_a_baseline_that_was_given_up() -> None:
    ledger = ledger_of(trials_of(3, failing=(BASE,)))
    ledger.newly_hopeless(at="")

    assert list(ledger.half_widths()) == []


def test_a_ratio_over_blocks_has_a_width() -> None:
    (width,) = ledger_of(trials_of(6)).half_widths()

    assert width == pytest.approx(0)


@settings(deadline=None)
@given(st.integers(0, 21), st.lists(st.sampled_from(PLAN.blocks[0].cells), max_size=2).map(tuple))
def test_a_run_that_was_cut_anywhere_goes_on_with_what_a_whole_one_would_have_done(
    cut: int, failing: tuple[Cell, ...]
) -> None:
    def go_on(ledger: Ledger) -> list[tuple[int, int]]:
        for block in PLAN.blocks:
            for position, _ in ledger.due(block):
                ledger.enter(trial(block, position, failing=failing))
                ledger.newly_hopeless(at="")
        return [(entry.block, entry.position) for entry in ledger.trials]

    whole = ledger_of([])
    go_on(whole)
    resumed = ledger_of(list(whole.trials[:cut]))
    resumed.newly_hopeless(at="")

    assert go_on(resumed) == [(entry.block, entry.position) for entry in whole.trials]
    assert resumed.blocks_done == whole.blocks_done


def test_warm_up_blocks_do_not_count_as_done() -> None:
    ledger = ledger_of(trials_of(2))

    assert PLAN.blocks[0].kind is TrialKind.WARMUP
    assert ledger.blocks_done == 1
