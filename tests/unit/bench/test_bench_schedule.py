"""The order of trials: complete, random, and the same again."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bench.model import Cell, Suite, TrialKind, WorkloadUse
from lab.bench.schedule import cells_of, plan

ARMS = ("process", "container", "runc", "docker", "vm-tcg")


def suite_of(arms: tuple[str, ...] = ARMS, *, warmup: int = 1, blocks: int = 6, only: tuple[str, ...] = ()) -> Suite:
    uses = (
        WorkloadUse(workload="startup", image="busybox", vcpus=1, memory_bytes=1),
        WorkloadUse(workload="disk", name="disk-bind", image="debian", vcpus=1, memory_bytes=1, arms=only),
    )
    return Suite(
        name="s",
        title="",
        question="",
        digest="sha256:0",
        arms=arms,
        baseline=arms[0],
        workloads=uses,
        warmup_blocks=warmup,
        min_blocks=1,
        max_blocks=blocks,
        budget_ns=1,
        target_half_width_ratio=0.05,
    )


suites = st.builds(
    lambda count, warmup, blocks: suite_of(ARMS[:count], warmup=warmup, blocks=blocks),
    st.integers(1, len(ARMS)),
    st.integers(0, 3),
    st.integers(1, 8),
)


@settings(deadline=None)
@given(suites, st.integers())
def test_every_block_holds_every_cell_once_and_the_twin_of_the_baseline(suite: Suite, seed: int) -> None:
    for block in plan(suite, seed=seed, arms=suite.arms).blocks:
        assert Counter(block.cells) == Counter(cells_of(suite, suite.arms))
        twins = [cell for cell in block.cells if cell.twin]
        assert {(twin.workload, twin.arm) for twin in twins} == {(use.key, suite.baseline) for use in suite.workloads}


@settings(deadline=None)
@given(suites, st.integers())
def test_planning_again_gives_the_same_order(suite: Suite, seed: int) -> None:
    assert plan(suite, seed=seed, arms=suite.arms) == plan(suite, seed=seed, arms=set(suite.arms))


@settings(deadline=None)
@given(suites, st.integers())
def test_warm_up_blocks_come_first_and_are_numbered_with_the_others(suite: Suite, seed: int) -> None:
    blocks = plan(suite, seed=seed, arms=suite.arms).blocks
    assert [block.number for block in blocks] == list(range(suite.warmup_blocks + suite.max_blocks))
    assert [block.kind for block in blocks].count(TrialKind.WARMUP) == suite.warmup_blocks
    assert all(block.kind is TrialKind.WARMUP for block in blocks[: suite.warmup_blocks])


def test_the_order_is_frozen_for_a_seed() -> None:
    # an interrupted run of an older lab must resume in its order: a change here needs a new schedule version
    schedule = plan(suite_of(), seed=7, arms=ARMS)
    assert schedule.digest == "sha256:1f508468c21fef1ff65cd625f7d9e1341f20685275d29e927fdd78cb95028997"


def test_another_seed_gives_another_order() -> None:
    digests = {plan(suite_of(), seed=seed, arms=ARMS).digest for seed in range(50)}
    assert len(digests) == 50


def test_no_arm_is_favoured_with_a_place_in_the_block() -> None:
    blocks = plan(suite_of(warmup=0, blocks=600), seed=1, arms=ARMS).blocks
    first = Counter(block.cells[0].key for block in blocks)
    # 12 cells in 600 blocks: 50 each, give or take four standard deviations
    assert len(first) == 12
    assert all(22 <= count <= 78 for count in first.values())


def test_an_arm_that_is_not_there_is_left_out_of_every_block() -> None:
    blocks = plan(suite_of(), seed=1, arms=("process", "vm-tcg")).blocks
    assert {cell.arm for block in blocks for cell in block.cells} == {"process", "vm-tcg"}


def test_a_workload_that_is_for_some_arms_is_planned_on_those_only() -> None:
    cells = cells_of(suite_of(only=("process", "runc")), ARMS)
    assert [cell for cell in cells if cell.workload == "disk-bind"] == [
        Cell(workload="disk-bind", arm="process"),
        Cell(workload="disk-bind", arm="runc"),
        Cell(workload="disk-bind", arm="process", twin=True),
    ]


def test_without_its_baseline_nothing_is_planned() -> None:
    with pytest.raises(ValueError, match="baseline"):
        plan(suite_of(), seed=1, arms=("runc",))
