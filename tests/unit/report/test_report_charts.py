"""Charts say how many values they show, which way is better, and nothing that their data does not."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from unit.report import synthetic_runs as synthetic

from lab.report import charts, tables, wording
from lab.report.arms import ArmView, Isolation
from lab.report.figures import ForestGroup, ForestRow, Ink, forest
from lab.report.frame import Evidence, load
from lab.report.measures import compare, quantities
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
