"""Memory over the number of instances: a slope and a fixed cost, on the page where they were measured only."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from unit.report import synthetic_runs as synthetic

from lab.bench.model import Cell, Sample, Trial, TrialKind, TrialStatus, WorkloadUse
from lab.bench.workloads.density import WORKLOAD
from lab.report import claims
from lab.report.density import density_views
from lab.report.frame import Evidence, evidence
from lab.report.material import material
from lab.report.measures import quantities
from lab.report.page import Outcome
from lab.report.story import tell

MIB = synthetic.MIB
ARMS = (synthetic.PROCESS, synthetic.CONTAINER, synthetic.EMULATED)
SLOPES_MIB = {"process": 1.2, "container": 1.5, "guest-a": 160.0}
ONCE_MIB = 4.0


def steps(most: int) -> Iterator[tuple[int, str]]:
    yield from ((count, "up") for count in range(1, most + 1))
    yield from ((count, "down") for count in range(most - 1, 0, -1))


def density_trial(arm: str, draw: random.Random, *, block: int, twin: bool, available: float = 1.0) -> Trial:
    """Return a trial in which an arm's PSS grows by its slope; MemAvailable falls ``available`` times as far."""
    samples = []
    for view, factor in (("pss", 1.0), ("host_available", available)):
        labels = {"state": "idle", "view": view}
        for count, direction in steps(4):
            value = factor * (ONCE_MIB + SLOPES_MIB[arm] * count - 0.05 * twin) * MIB + draw.gauss(0, 0.01 * MIB)
            step = {"instances": str(count), "direction": direction}
            samples.append(Sample(metric="density_reading", value=value, labels={**labels, **step}))
        slope = factor * SLOPES_MIB[arm] * MIB * draw.lognormvariate(0, 0.005)
        samples.append(Sample(metric="density_slope", value=slope, labels=labels))
    return Trial(
        cell=Cell(workload="density", arm=arm, twin=twin),
        kind=TrialKind.MEASURED if block else TrialKind.WARMUP,
        block=block,
        position=0,
        status=TrialStatus.OK,
        started_at="2026-11-24T04:40:00+00:00",
        samples=tuple(samples),
    )


def measured_run(*, blocks: int = 6, available: float = 1.0, arms: Sequence[synthetic.Synthetic] = ARMS) -> Evidence:
    draw = random.Random(3)
    base = synthetic.run(arms, blocks=blocks, seed=3)
    use = WorkloadUse(workload="density", image="debian-workloads", vcpus=1, memory_bytes=256 * MIB)
    run = replace(
        base,
        suite=replace(base.suite, workloads=(*base.suite.workloads, use)),
        metrics=(*base.metrics, *WORKLOAD.metrics),
    )
    trials = synthetic.trials(arms, blocks=blocks, seed=3, disk=False)
    more = [
        density_trial(arm.name, draw, block=block, twin=twin, available=available)
        for block in range(blocks + 1)
        for arm, twin in [*((arm, False) for arm in arms), (arms[0], True)]
    ]
    return evidence("results.jsonl", run, synthetic.END, [*trials, *more])


@pytest.fixture(scope="module")
def found() -> Evidence:
    return measured_run()


def test_slope_and_fixed_cost_are_those_that_the_readings_were_made_with(found: Evidence) -> None:
    pss = next(view for view in density_views(found) if view.view == "pss")
    assert [arm.series for arm in pss.arms] == ["process", "process+twin", "container", "guest-a"]
    for arm in pss.arms:
        expected = SLOPES_MIB[arm.series.removesuffix("+twin")] * MIB
        assert arm.fitted.slope.estimate == pytest.approx(expected, rel=0.02)
        assert arm.fitted.slope.low <= arm.fitted.slope.estimate <= arm.fitted.slope.high
        assert arm.fitted.intercept.estimate == pytest.approx(ONCE_MIB * MIB, rel=0.02)
        assert (arm.trials, arm.most, len(arm.lines)) == (6, 4, 6)


def test_the_page_draws_memory_against_the_number_of_instances_with_each_slope_in_the_legend(found: Evidence) -> None:
    page = tell(found, files=False)
    (section,) = [section for section in page.sections if section.key == "density"]
    chart = next(chart for chart in section.charts if chart.key == "density-density-pss")
    assert re.search(r">[\d.]+ MiB \[[\d.]+ MiB, [\d.]+ MiB\] each<", chart.svg)
    assert re.search(r">[\d.]+ MiB \[[\d.]+ MiB, [\d.]+ MiB\] once<", chart.svg)
    assert "n = 6 trials per arm" in chart.svg
    costs = r"one more instance costs 1\.2\d MiB for process, 1\.5\d MiB for container and 1\d\d MiB for guest-a"
    assert re.search(costs, chart.finding)
    assert [row[0] for row in chart.table.rows] == ["process", "process (A/A twin)", "container",
                                                    "guest-a · software emulation (TCG)"]  # fmt: skip


def test_arms_of_one_size_share_a_panel_in_the_order_of_the_run(found: Evidence) -> None:
    chart = next(chart for chart in tell(found, files=False).charts if chart.key == "density-density-pss")
    named = re.findall(r">(process|process, A/A twin|container|guest-a, [^<]*)<", chart.svg)
    assert named == ["process", "process, A/A twin", "container", "guest-a, software emulation (TCG)"]


def test_a_run_without_such_readings_has_no_word_of_density() -> None:
    trials = synthetic.trials(ARMS, blocks=5, seed=3, disk=False)
    page = tell(evidence("r", synthetic.run(ARMS, blocks=5, seed=3), synthetic.END, trials), files=False)
    assert "density" not in {section.key for section in page.sections}
    assert not any("density" in chart.key for chart in page.charts)


def pairs_of(claim: str, run: Evidence) -> list[claims.Pair]:
    return [pair for pair in material(run, quantities(run)).pairs[claim] if "one more instance" in pair.quantity]


def test_the_claims_on_memory_are_judged_by_the_slope_as_well(found: Evidence) -> None:
    assert {pair.quantity for pair in pairs_of("C8", found)} == {
        "memory of one more instance, PSS, idle (density)",
        "memory of one more instance, the host's MemAvailable, idle (density)",
    }
    assert {pair.quantity for pair in pairs_of("C5", found)} == {"memory of one more instance, PSS, idle (density)"}
    verdicts = {verdict.claim: verdict for verdict in claims.judge_all(material(found, quantities(found)))}
    assert verdicts["C8"].outcome is Outcome.SUPPORTED
    assert any("with KSM off and on" in item for item in verdicts["C5"].evidence)


def test_a_slope_that_is_no_cost_in_some_trial_is_shown_and_not_judged() -> None:
    run = measured_run(available=-0.1)
    assert not any("MemAvailable" in pair.quantity for pair in pairs_of("C8", run))
    unjudged = material(run, quantities(run)).unjudged["C8"]
    assert any(note.startswith("Not judged: memory of one more instance, the host's MemAvailable") for note in unjudged)
    assert "density-density-host-available" in {chart.key for chart in tell(run, files=False).charts}


def test_slopes_are_no_performance_of_the_payload(found: Evidence) -> None:
    assert material(found, quantities(found)).pairs["C13"] == ()
