"""Charts say how many values they show, which way is better, and nothing that their data does not."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.report import synthetic_runs as synthetic

from lab.bench.model import Better, Cell, GivenUp, Metric, Sample, Unit
from lab.report import charts, tables, wording
from lab.report.arms import ArmView, Isolation
from lab.report.figures import binary_step, dot_rows, forest
from lab.report.frame import Evidence, load
from lab.report.frame import evidence as build_evidence
from lab.report.measures import compare, quantities
from lab.report.shapes import ForestGroup, ForestRow, Ink, Line
from lab.report.story import tell


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return load(str(synthetic.write_run(tmp_path_factory.mktemp("run"))))


def group(title: str, tau: float) -> ForestGroup:
    row = ForestRow(label="arm", ink=Ink(slot=1), ratio=1.3, low=1.2, high=1.4, median="1 ms", text="1.30×")
    return ForestGroup(title=title, note="n = 6 blocks", tau=tau, rows=[row])


def test_each_group_of_the_forest_has_the_band_of_its_own_noise_floor() -> None:
    axes = forest([group("quiet", 0.05), group("noisy", 0.25)]).axes[0]
    bands = [(band.get_paths()[0].get_extents().x0, band.get_paths()[0].get_extents().x1) for band in axes.collections]
    assert bands == [pytest.approx((1 / 1.05, 1.05)), pytest.approx((1 / 1.25, 1.25))]


def test_every_chart_says_how_many_values_stand_behind_it(evidence: Evidence) -> None:
    made = tell(evidence, files=False).charts
    assert {chart.key.split("-")[0] for chart in made} >= {"forest", "ecdf", "phases", "memory", "latency", "order"}
    for chart in made:
        assert re.search(r"n = 12", chart.svg), chart.key


def test_a_median_lies_on_its_line_even_where_values_below_zero_cannot_be_drawn() -> None:
    line = Line(label="arm", ink=Ink(slot=1), values=(-20.0, -5.0, 18.0, 40.0))
    axes = dot_rows([("a drop", [line])], write=str, quantity="memory").axes[0]
    interval, mark = (drawn.get_xdata() for drawn in axes.lines[:2])
    assert interval[0] <= mark[0] <= interval[1]


def test_counts_that_differ_between_arms_are_a_span() -> None:
    assert wording.counted([6, 6]) == "n = 6"
    assert wording.counted([6, 1_205]) == "n = 6 to 1,205"


def test_the_last_phase_of_an_arm_without_marks_is_not_called_the_payloads() -> None:
    assert charts.phase_name("ready", ["spawned", "ready"]) == wording.UNSPLIT
    assert charts.phase_name("ready", ["spawned", "userspace", "ready"]) == "payload ready"
    assert charts.phase_name("spawned", ["spawned", "ready"]) == "program exists"


def test_what_all_rows_of_a_chart_share_stands_at_its_axis_alone(evidence: Evidence) -> None:
    latency = [quantity for quantity in quantities(evidence) if quantity.metric.name == "io_latency"]
    assert dict(charts.shared_labels(latency)) == {"place": "data", "pattern": "randread"}


def card(**answers: str) -> list[tuple[str, ...]]:
    views = {
        name: ArmView(name=name, isolation=Isolation.CONTAINER, fairness={"same image": answer})
        for name, answer in answers.items()
    }
    return list(tables.fairness_table(views).rows)


def test_the_reason_that_most_arms_give_for_yes_stands_once() -> None:
    rows = card(a="yes: one digest", b="yes: one digest", c="yes: by hand", d="no: other bytes")
    assert rows == [("same image?", "one digest", "yes", "yes", "yes: by hand", "no: other bytes")]


def test_a_yes_without_a_reason_has_nothing_to_explain() -> None:
    assert card(a="yes", b="no") == [("same image?", "", "yes", "no")]


def test_a_twin_whose_interval_leaves_out_one_is_told_with_its_quantity(evidence: Evidence) -> None:
    startup = next(quantity for quantity in quantities(evidence) if quantity.metric.name == "startup_wall")
    twin = compare(startup, "process+twin", "process", "process")
    assert twin is not None
    assert "leaves out 1" not in charts.twin_finding([twin])
    off = replace(twin, ratio=replace(twin.ratio, low=1.01, high=1.04))
    assert f"Its interval leaves out 1 on {startup.title}" in charts.twin_finding([off])


def test_the_page_of_the_run_is_the_same_when_built_twice(tmp_path: Path) -> None:
    run = load(str(synthetic.write_run(tmp_path / "run", blocks=3)))
    assert [chart.svg for chart in tell(run, files=False).charts] == [
        chart.svg for chart in tell(run, files=False).charts
    ]


@given(st.floats(min_value=4.0, max_value=2.0**50))
def test_an_axis_of_sizes_has_two_to_four_round_steps(highest: float) -> None:
    step = binary_step(highest)
    assert math.log2(step).is_integer()
    assert 2 <= highest / step < 4.000001


def test_a_start_shows_its_cpu_time_beside_its_wall_time(evidence: Evidence) -> None:
    found = {quantity.metric.name: quantity for quantity in quantities(with_cpu(evidence))}
    chart = next(chart for chart in tell(with_cpu(evidence), files=False).charts if chart.key == "cpu-startup")
    assert [row[0] for row in chart.table.rows][:1] == [found["startup_wall"].title]
    assert {"of it: payload", "of it: helpers"} <= set(re.findall(r">(of it: \w+)<", chart.svg))
    assert "of it: daemons for process" in chart.reading


def with_cpu(found: Evidence) -> Evidence:
    """Return the evidence with the CPU time of each start and its parts; no daemon spent any."""
    parts = {"payload": 3e6, "helpers": 1e6, "daemons": 0.0}
    samples = [Sample(metric="startup_cpu", value=4e6)]
    samples += [Sample(metric="startup_cpu_part", value=value, labels={"part": p}) for p, value in parts.items()]
    metrics = (
        Metric(name="startup_cpu", unit=Unit.NANOSECONDS, better=Better.LOWER, title="CPU time of a start"),
        Metric(name="startup_cpu_part", unit=Unit.NANOSECONDS, better=Better.LOWER, title="CPU time in parts"),
    )
    known = {metric.name for metric in metrics}
    run = replace(found.run, metrics=(*(m for m in found.run.metrics if m.name not in known), *metrics))
    trials = [
        replace(trial, samples=(*trial.samples, *samples)) if trial.cell.workload == "startup" else trial
        for trial in found.trials
    ]
    return build_evidence(found.path, run, found.end, trials)


def test_memory_that_could_not_be_read_is_told(evidence: Evidence) -> None:
    unread = Sample(metric="memory_unread", value=1.0, labels={"state": "idle"})
    trials = [
        replace(trial, samples=(*trial.samples, unread)) if trial.cell.arm == "peer" else trial
        for trial in evidence.trials
    ]
    page = tell(build_evidence(evidence.path, evidence.run, evidence.end, trials), files=False)
    (memory,) = [section for section in page.sections if section.key == "memory"]
    assert memory.lead[0].startswith("The memory of some processes of peer could not be read")


def test_a_cell_that_was_given_up_is_told_before_any_number_and_listed(evidence: Evidence) -> None:
    reason = "it failed 3 times in a row, the last time with: no ready byte"
    given_up = GivenUp(
        cell=Cell(workload="startup", arm="peer"), block=2, failures=3, reason=reason, at="2026-11-24T04:20:00+00:00"
    )
    page = tell(replace(evidence, given_up=(given_up,)), files=False)
    assert f"peer was given up on startup in block 2: {reason}." in page.notices
    (failures,) = [section for section in page.sections if section.key == "failures"]
    table = next(table for table in failures.tables if table.key == "given-up")
    assert table.rows == (("peer", "startup", "2", "3", reason),)
