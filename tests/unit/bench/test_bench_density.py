"""The density workload on targets that cost what we say: its steps, its lines, and a host that is short of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.bench.model import Sample
from lab.bench.stats import density
from lab.bench.stats.density import Readings
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import Context, defaults
from lab.errors import TargetError, WorkloadFailed
from lab.target.protocol import Target

MIB = 1 << 20
PRIVATE, SHARED = 3 * MIB, 20 * MIB


class House:
    """A host on which each target costs PRIVATE, and the first one SHARED for all."""

    def __init__(self, *, room_for: int = 99, refuses: int = 99, steadies: bool = True) -> None:
        self.present = 1
        self.highest = 1
        self._room_for = room_for
        self._refuses = refuses
        self._steadies = steadies
        self._ticks = 0

    @contextmanager
    def another(self) -> Iterator[Target]:
        if self.present + 1 == self._refuses:
            raise TargetError("no more", backend="b", phase="start")
        self.present += 1
        self.highest = max(self.highest, self.present)
        try:
            yield cast(Target, object())  # nothing asks it for anything
        finally:
            self.present -= 1

    def views(self, targets: Sequence[Target]) -> Callable[[], Mapping[str, int]]:
        assert len(targets) == self.present
        cost = SHARED + PRIVATE * len(targets)

        def read() -> Mapping[str, int]:
            wobble = 0 if self._steadies else MIB * (self.clock() % 5)
            return {"pss": cost + wobble, "cgroup": cost - SHARED, "host_available_drop": cost}

        return read

    def clock(self) -> int:
        self._ticks += 100_000_000
        return self._ticks

    def available_bytes(self) -> int:
        return MIB * (1000 if self.present < self._room_for else 1)

    def memory(self, state: str) -> tuple[Sample, ...]:
        raise AssertionError(f"the memory of one target, {state}, is none of this workload's")

    def context(self, **parameters: int | str) -> Context:
        return Context(
            target=cast(Target, object()),
            clock=self.clock,
            parameters={**defaults(WORKLOADS["density"]), **parameters},
            memory=self.memory,
            another=self.another,
            views=self.views,
            available_bytes=self.available_bytes,
        )


def run(house: House, **parameters: int | str) -> list[Sample]:
    found: list[Sample] = []
    found.extend(WORKLOADS["density"].run(house.context(**parameters)))
    return found


def values(samples: list[Sample], metric: str, **labels: str) -> list[float]:
    return [s.value for s in samples if s.metric == metric and labels.items() <= s.labels.items()]


def test_instances_come_one_by_one_and_go_again_with_a_reading_at_each_step() -> None:
    house = House()
    samples = [s for s in run(house, instances=4) if s.metric == "density_reading" and s.labels["view"] == "pss"]

    steps = [(sample.labels["instances"], sample.labels["direction"]) for sample in samples]
    assert steps == [("1", "up"), ("2", "up"), ("3", "up"), ("4", "up"), ("3", "down"), ("2", "down"), ("1", "down")]
    assert (house.highest, house.present) == (4, 1)


def test_the_slope_is_the_cost_of_one_more_and_the_intercept_what_all_share() -> None:
    samples = run(House(), instances=4)

    assert values(samples, "density_slope", view="pss") == [PRIVATE]
    assert values(samples, "density_intercept", view="pss") == [SHARED]
    assert values(samples, "density_slope", view="host_available") == [PRIVATE]
    assert values(samples, "density_intercept", view="cgroup") == [0]
    assert values(samples, "density_slope_low", view="pss") == values(samples, "density_slope_high", view="pss")


def test_the_first_number_that_is_judged_is_among_what_is_measured() -> None:
    metric, labels = WORKLOADS["density"].primary(defaults(WORKLOADS["density"]))

    assert values(run(House()), metric, **labels) == [PRIVATE]


def test_a_host_that_gets_short_of_memory_ends_the_way_up_and_it_is_said() -> None:
    house = House(room_for=3)

    samples = run(house, instances=8)

    assert values(samples, "density_instances", stopped_by="reserve") == [3]
    assert (house.highest, house.present) == (3, 1)


def test_too_few_steps_for_a_line_are_a_failure_that_keeps_its_readings() -> None:
    house = House(room_for=2)
    found: list[Sample] = []

    with pytest.raises(WorkloadFailed, match="there were 2 instances, since the host's memory reserve was reached"):
        found.extend(WORKLOADS["density"].run(house.context()))

    assert len(values(found, "density_reading", view="pss")) == 3
    assert house.present == 1


def test_an_instance_that_does_not_start_takes_the_others_with_it() -> None:
    house = House(refuses=4)

    with pytest.raises(TargetError, match="no more"):
        run(house)

    assert house.present == 1


def test_whoever_stops_listening_leaves_no_instance() -> None:
    house = House()
    samples = iter(WORKLOADS["density"].run(house.context()))
    while house.present < 3:
        next(samples)

    cast(Iterator[Sample], samples).close()  # type: ignore[attr-defined]  # it is a generator

    assert house.present == 1


def test_a_reading_that_never_stands_still_is_taken_when_its_time_is_over() -> None:
    assert len(values(run(House(steadies=False)), "density_reading", view="pss")) == 7


def readings(*values_at: tuple[float, float]) -> Readings:
    return Readings(instances=[x for x, _ in values_at], values=[y for _, y in values_at])


def test_pooled_trials_share_a_slope_whatever_level_each_begins_at() -> None:
    trials = [readings((1, 10 + level), (2, 13 + level), (3, 16 + level)) for level in (0, 1000, -500)]

    pooled = density.pool(trials)

    assert (pooled.slope.low, pooled.slope.estimate, pooled.slope.high) == (3, 3, 3)
    assert pooled.intercept.estimate == 7
    assert pooled.slope.count == 3


def test_trials_of_different_lengths_are_pooled() -> None:
    trials = [readings((1, 5), (2, 7), (3, 9)), readings((1, 15), (2, 17), (3, 19), (4, 21), (3, 19))]

    pooled = density.pool(trials)

    assert (pooled.slope.low, pooled.slope.estimate, pooled.slope.high) == (2, 2, 2)
    assert pooled.intercept.estimate == 8


def test_one_trial_alone_has_no_interval_over_trials() -> None:
    pooled = density.pool([readings((1, 1), (2, 2), (3, 3))])

    assert pooled.slope.estimate == 1
    assert np.isinf(pooled.slope.low)
    assert np.isinf(pooled.slope.high)


def test_a_pool_without_trials_is_refused() -> None:
    with pytest.raises(ValueError):
        density.pool([])


@settings(max_examples=20, deadline=None)  # each draws a thousand lines
@given(
    st.floats(-1e6, 1e6),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=5),
    st.integers(3, 6),
)
def test_a_pool_of_exact_lines_finds_them_again(slope: float, levels: list[float], count: int) -> None:
    trials = [readings(*((x, level + slope * x) for x in range(1, count + 1))) for level in levels]

    pooled = density.pool(trials)

    assert pooled.slope.estimate == pytest.approx(slope, abs=1e-3)
    assert pooled.slope.low <= pooled.slope.estimate + 1e-3
    assert pooled.slope.high >= pooled.slope.estimate - 1e-3
