"""Evidence -> charts: the figure, its finding in words (which is its alt text), how to read it, and its table."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import pandas as pd

from lab.bench.model import Unit
from lab.bench.stats.verdict import Conclusion
from lab.report import figures, reference, svg, tables, wording
from lab.report.arms import TWIN_SUFFIX, chart_label, series_label
from lab.report.density import ArmLine, DensityView
from lab.report.frame import START_MARKS, Evidence, measured
from lab.report.material import view_rank
from lab.report.measures import Comparison, Quantity, series_order, summary
from lab.report.page import Chart, Table
from lab.report.shapes import Curve, DensityLine, ForestGroup, ForestRow, Ink, Line, PhaseBar, RunPoint
from lab.target.spec import MarkName
from lab.units import format_duration_ns, format_percent, writer

T = TypeVar("T")


def make(
    key: str, title: str, *, figure: figures.Figure, finding: str, reading: str, table: Table, files: bool
) -> Chart:
    """Return a finished chart; ``files`` also renders the pictures that stand alone."""
    picture = figures.to_svg(figure)
    return Chart(
        key=key,
        title=title,
        finding=finding,
        reading=reading,
        table=table,
        svg=svg.for_page(picture, key=key, alt=f"{title}. {finding}"),
        svg_file=svg.on_paper(picture) if files else b"",
        png=figures.to_png(figure) if files else b"",
    )


def ink(series: str, evidence: Evidence) -> Ink:
    """Return how a series is drawn: by the place of its arm in the run, hollow for the twin."""
    arms = list(evidence.arms)
    name = series.removesuffix(TWIN_SUFFIX)
    return Ink(slot=arms.index(name) if name in arms else len(arms), hollow=series.endswith(TWIN_SUFFIX))


def forest(evidence: Evidence, comparisons: Sequence[Comparison], *, files: bool) -> Chart:
    """Return the ratios to the baseline with their intervals, the A/A row first in each group."""
    return make(
        "forest",
        f"How each arm compares with {evidence.arms[evidence.run.suite.baseline].label}",
        figure=figures.forest(_forest_groups(evidence, comparisons)),
        finding=forest_finding(evidence, comparisons),
        reading="Each mark is the ratio to the baseline, block by block (Hodges-Lehmann); its line is the 95 % "
        "interval (BCa bootstrap over blocks). The shaded band is the noise floor of the quantity: the larger of 5 % "
        "and what the A/A twin, the baseline measured twice, shows. A ratio is called different only when its whole "
        "interval lies outside the band, also after Holm's correction for the number of ratios; equivalent when "
        "inside; otherwise it is inconclusive. At the right stand each arm's median and the ratio in figures. The axis "
        "is logarithmic: ½ and 2 lie equally far from 1.",
        table=tables.ratio_table("forest", "Ratios to the baseline", comparisons, evidence.arms),
        files=files,
    )


def _forest_groups(evidence: Evidence, comparisons: Sequence[Comparison]) -> list[ForestGroup]:
    groups: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        groups.setdefault(comparison.quantity.title, []).append(comparison)
    return [
        ForestGroup(
            title=title,
            note=_forest_note(evidence, members),
            tau=members[0].verdict.noise_floor_ratio,
            rows=[_forest_row(evidence, member) for member in members],
        )
        for title, members in groups.items()
    ]


def _forest_note(evidence: Evidence, members: Sequence[Comparison]) -> str:
    quantity, reference_arm = members[0].quantity, members[0].reference
    return (
        f"baseline {series_label(reference_arm, evidence.arms)}: {quantity.median_text(reference_arm)}   ·   "
        f"{wording.counted([member.ratio.count for member in members])} blocks   ·   "
        f"{wording.direction(quantity.metric.better)}"
    )


def _forest_row(evidence: Evidence, comparison: Comparison) -> ForestRow:
    found = comparison.ratio
    return ForestRow(
        label=chart_label(comparison.subject, evidence.arms),
        ink=ink(comparison.subject, evidence),
        ratio=found.ratio,
        low=max(found.low, found.ratio / 100),
        high=min(found.high, found.ratio * 100),
        median=comparison.quantity.median_text(comparison.subject),
        text=f"{wording.ratio(found.ratio)}× {wording.interval(found.low, found.high)}",
    )


def forest_finding(evidence: Evidence, comparisons: Sequence[Comparison]) -> str:
    """Say how many ratios differ, and what the A/A twin reads."""
    twins = [comparison for comparison in comparisons if comparison.subject.endswith(TWIN_SUFFIX)]
    others = [comparison for comparison in comparisons if not comparison.subject.endswith(TWIN_SUFFIX)]
    counts = {
        conclusion: sum(comparison.verdict.conclusion is conclusion for comparison in others)
        for conclusion in Conclusion
    }
    baseline = evidence.arms[evidence.run.suite.baseline].label
    said = (
        f"{wording.plural(len(others), 'ratio')} to {baseline}: {counts[Conclusion.DIFFERENT]} different, "
        f"{counts[Conclusion.EQUIVALENT]} equivalent, {counts[Conclusion.INCONCLUSIVE]} inconclusive."
    )
    return f"{said} {twin_finding(twins)}"


def twin_finding(twins: Sequence[Comparison]) -> str:
    """Say whether the A/A twin, which must show no difference, shows none."""
    if not twins:
        return "The run has no A/A twin, so the noise floor is only assumed."
    wrong = [twin for twin in twins if twin.verdict.conclusion is Conclusion.DIFFERENT]
    worst = max(twins, key=lambda twin: abs(twin.ratio.log.estimate))
    floor = max(twin.verdict.noise_floor_ratio for twin in twins)
    if wrong:
        named = wording.joined([twin.quantity.title for twin in wrong])
        return f"The A/A twin differs from its own baseline on {named}: this machine was too noisy for these ratios."
    missing = [twin.quantity.title for twin in twins if not twin.ratio.low <= 1 <= twin.ratio.high]
    beside = (
        f" Its interval leaves out 1 on {wording.joined(missing)}: a difference of that size means nothing there."
        if missing
        else ""
    )
    return (
        f"The A/A twin is nowhere different from its baseline (furthest: {wording.ratio(worst.ratio.ratio)}×); the "
        f"noise floor is at most ±{format_percent(floor)}.{beside}"
    )


def ecdf(evidence: Evidence, quantity: Quantity, *, files: bool) -> Chart:
    """Return how the start-up times of each arm are distributed."""
    lines = [
        Line(label=chart_label(name, evidence.arms), ink=ink(name, evidence), values=series.values)
        for name, series in quantity.series.items()
    ]
    key = f"ecdf-{wording.slug(quantity.workload)}"
    return make(
        key,
        f"How start-up times are distributed ({quantity.workload})",
        figure=figures.ecdf(
            lines,
            write=wording.tick(quantity.unit),
            quantity=_axis(quantity.metric.title, [quantity]),
            context=[(band.label, band.low, band.high) for band in reference.startup_ranges()],
        ),
        finding=f"Half of the starts were ready within {_medians(evidence, quantity)}.",
        reading="A curve gives, for each time, the share of an arm's starts that were ready by then: further left is "
        "sooner, steeper is steadier. The mark on each curve is its median. Beneath, every single start is a mark in "
        "its arm's row. The axis is logarithmic: equal distances are equal factors. The A/A twin is drawn hollow. "
        "Grey spans at the bottom are published results of other machines and definitions, for context only.",
        table=tables.values_table(key, f"Start-up times, {quantity.workload}", [quantity], evidence.arms),
        files=files,
    )


def _axis(title: str, chosen: Sequence[Quantity]) -> str:
    """Return what an axis is called: the quantity, and how many values each arm has on it."""
    counts = [len(series.values) for quantity in chosen for series in quantity.series.values()]
    return f"{title}, {wording.counted(counts)} per arm"


def _medians(evidence: Evidence, quantity: Quantity) -> str:
    said = [
        f"{quantity.median_text(name)} for {series_label(name, evidence.arms)}"
        for name in quantity.series
        if not name.endswith(TWIN_SUFFIX)
    ]
    return wording.joined(said)


def phases(evidence: Evidence, workload: str, *, files: bool) -> Chart | None:
    """Return where the time goes, a stacked bar of phase medians per arm; None when no trial has marks."""
    frame = measured(evidence.phases_frame)
    frame = frame[frame["workload"] == workload]
    if frame.empty:
        return None
    order = [mark.value for mark in START_MARKS if (frame["phase"] == mark.value).any()]
    names = [name for name in series_order(dict.fromkeys(frame["series"]), evidence) if not name.endswith(TWIN_SUFFIX)]
    bars = [_phase_bar(evidence, name, frame[frame["series"] == name], order) for name in names]
    key = f"phases-{wording.slug(workload)}"
    return make(
        key,
        f"Where the time goes: request to ready ({workload})",
        figure=figures.phases(
            panels_by_size(bars, lambda bar: bar.total[0]),
            order=[*(wording.PHASES[name] for name in order), wording.UNSPLIT],
            write=wording.tick_ns,
            quantity=f"time since the request, {wording.counted([bar.count for bar in bars])} starts per arm",
        ),
        finding=phases_finding(evidence, frame),
        reading="Each segment is the median of one phase, named for the mark that ends it; the thin line at its end "
        "spans its middle half (p25 to p75). A light, hatched segment is time of an arm that shows no mark in it: what "
        "of it went into which phase cannot be told. The diamond below each bar is the median of the total with its "
        "middle half: it is measured on its own, since medians do not add. Arms of different orders of magnitude have "
        "panels of their own, each from zero.",
        table=tables.phases_table(evidence, workload, order),
        files=files,
    )


def _phase_bar(evidence: Evidence, name: str, frame: pd.DataFrame, order: Sequence[str]) -> PhaseBar:
    seen = [phase for phase in order if (frame["phase"] == phase).any()]
    parts = []
    for phase in seen:
        values = frame[frame["phase"] == phase]["duration_ns"]
        low, middle, high = (float(values.quantile(share)) for share in (0.25, 0.5, 0.75))
        parts.append((phase_name(phase, seen), middle, low, high))
    totals = frame.drop_duplicates("line")["total_ns"]
    return PhaseBar(
        label=chart_label(name, evidence.arms),
        phases=parts,
        total=(float(totals.quantile(0.5)), float(totals.quantile(0.25)), float(totals.quantile(0.75))),
        count=len(totals),
    )


def phase_name(phase: str, seen: Collection[str]) -> str:
    """Return what a phase is called on an arm that shows the marks ``seen``.

    Where nothing marks the payload's start, the time up to ready has the making of the target in it as well.
    """
    unsplit = phase == MarkName.READY and MarkName.USERSPACE not in seen
    return wording.UNSPLIT if unsplit else wording.PHASES[phase]


def wall_and_cpu(evidence: Evidence, wall: Quantity, cpu: Sequence[Quantity], *, files: bool) -> Chart:
    """Return the CPU time of a start, in all and in parts, beside its wall time."""
    chosen = [wall, *sorted(cpu, key=lambda quantity: len(quantity.labels))]
    rows = [(_wall_or_cpu(quantity), quantity) for quantity in chosen]
    key, title = f"cpu-{wording.slug(wall.workload)}", f"Wall time and CPU time of a start ({wall.workload})"
    return make(
        key,
        title,
        figure=figures.dot_rows(
            [(row.replace(", ", ",\n", 1), _lines(evidence, quantity)) for row, quantity in rows],
            write=wording.tick(wall.unit),
            quantity=f"{_axis('time of one start', chosen)}; {wording.direction(wall.metric.better)}",
        ),
        finding=f"{wording.sentence_case(chosen[1].title)}, medians: {_medians(evidence, chosen[1])}.",
        reading="Each row is one quantity, each mark an arm's median with a line from p10 to p90 of its starts. CPU "
        "time above wall time means work on several processors at once; far below it, waiting. Whose CPU time is "
        "counted is told in docs/reference/metrics.md. The axis is logarithmic; the A/A twin is drawn hollow."
        + _beyond_the_axis(evidence, rows),
        table=tables.values_table(key, title, chosen, evidence.arms),
        files=files,
    )


def _wall_or_cpu(quantity: Quantity) -> str:
    words = wording.labels_in_words(quantity.labels)
    return f"of it: {words}" if words else quantity.metric.title


PANEL_FACTOR = 6.0
"""What differs in size by more than this does not share a panel: the smaller could not be read."""


def panels_by_size(items: Sequence[T], size: Callable[[T], float]) -> list[list[T]]:
    """Return what is drawn from zero in panels of similar size, small ones first."""
    panels: list[list[T]] = []
    for item in sorted(items, key=size):
        if panels and size(item) <= size(panels[-1][0]) * PANEL_FACTOR:
            panels[-1].append(item)
        else:
            panels.append([item])
    return panels


def phases_finding(evidence: Evidence, frame: pd.DataFrame) -> str:
    """Say for each arm which phase is the longest."""
    said = []
    for name in series_order(dict.fromkeys(frame["series"]), evidence):
        if name.endswith(TWIN_SUFFIX):
            continue
        medians = frame[frame["series"] == name].groupby("phase")["duration_ns"].median()
        longest = phase_name(str(medians.idxmax()), [str(phase) for phase in medians.index])
        said.append(f"{series_label(name, evidence.arms)}: {longest} ({format_duration_ns(float(medians.max()))})")
    return f"The longest phase of each arm, by median: {'; '.join(said)}."


def memory(evidence: Evidence, workload: str, views: Sequence[Quantity], *, files: bool) -> Chart:
    """Return what one instance takes in every view of memory."""
    ordered = sorted(views, key=view_rank)
    state = ordered[0].label("state")
    key = f"memory-{wording.slug(workload)}"
    name = f"{state}, {workload}" if state and state != workload else workload
    rows = [(wording.view_name(quantity.label("view")), quantity) for quantity in ordered]
    return make(
        key,
        f"What one instance takes in memory ({name})",
        figure=figures.dot_rows(
            [(row, _lines(evidence, quantity)) for row, quantity in rows],
            write=wording.tick(ordered[0].unit),
            quantity=_axis(ordered[0].metric.title, ordered),
            binary=True,
        ),
        finding=f"By {wording.view_name(ordered[0].label('view'))} an instance takes {_medians(evidence, ordered[0])}.",
        reading="Each row is one way of counting, each mark an arm's median with a line from p10 to p90. The views "
        "differ on purpose: PSS divides shared pages among their users, USS leaves them out, RSS counts them in "
        "full, the cgroup also has page cache and kernel objects. Helpers that vanish with the instance (VMM, "
        "shim, monitor) are counted in every arm. A guest's own view is of memory inside it, not of the host's. "
        "The axis is logarithmic." + _beyond_the_axis(evidence, rows),
        table=tables.values_table(key, f"Memory of one instance, {name}", ordered, evidence.arms),
        files=files,
    )


def _lines(evidence: Evidence, quantity: Quantity) -> list[Line]:
    return [
        Line(label=chart_label(name, evidence.arms), ink=ink(name, evidence), values=series.values)
        for name, series in quantity.series.items()
        if summary(series.values).median > 0  # a log axis has no place for the rest: the chart says so in words
    ]


def _beyond_the_axis(evidence: Evidence, rows: Sequence[tuple[str, Quantity]]) -> str:
    """Say which medians are zero or below and so have no mark, "" when there are none."""
    said = []
    for row, quantity in rows:
        drawn = {line.label for line in _lines(evidence, quantity)}
        missing = [
            series_label(name, evidence.arms)
            for name in quantity.series
            if chart_label(name, evidence.arms) not in drawn
        ]
        if missing:
            said.append(f"{row} for {wording.joined(missing)}")
    if not said:
        return ""
    return f" Medians of zero or below have no mark, only their row in the table: {'; '.join(said)}."


def density(evidence: Evidence, view: DensityView, *, files: bool) -> Chart:
    """Return memory against the number of instances with each arm's line, its slope in the legend."""
    lines = [_density_line(evidence, arm) for arm in view.arms]
    name, key = wording.view_name(view.view), f"density-{wording.slug(f'{view.workload} {view.view}')}"
    trials = wording.counted([arm.trials for arm in view.arms])
    return make(
        key,
        f"What one more instance costs: {name}, {view.state} ({view.workload})",
        figure=figures.density(
            [
                sorted(panel, key=lines.index)
                for panel in panels_by_size(lines, lambda line: max(point[1] for point in line.points))
            ],
            write=wording.tick(Unit.BYTES),
            quantity=f"memory of all instances,\n{name}",
            instances=f"instances at the same time, {trials} trials per arm",
        ),
        finding=density_finding(evidence, view),
        reading="Each mark is one reading of all instances together: filled when one had just come, hollow when one "
        "had just gone. The line is the one that all trials of an arm share (Theil-Sen within trials): its slope is "
        "what one more instance costs, its height at zero what is paid once, whatever the number. In brackets stand "
        "95 % intervals, a bootstrap over trials. Arms of different orders of magnitude have panels of their own.",
        table=tables.density_table(key, view, evidence.arms),
        files=files,
    )


def _density_line(evidence: Evidence, arm: ArmLine) -> DensityLine:
    label = chart_label(arm.series, evidence.arms).replace("\n", ", ")
    slope, once = arm.fitted.slope, arm.fitted.intercept
    return DensityLine(
        label=f"{label}\n{tables.size_interval(slope)} each\n{tables.size_interval(once)} once",
        ink=ink(arm.series, evidence),
        points=[(point.instances, point.value, point.up) for point in arm.points],
        slope=slope.estimate,
        intercept=once.estimate,
    )


def density_finding(evidence: Evidence, view: DensityView) -> str:
    """Say what one more instance costs in each arm."""
    write = writer(Unit.BYTES)
    said = [
        f"{write(arm.fitted.slope.estimate)} for {series_label(arm.series, evidence.arms)}"
        for arm in view.arms
        if not arm.series.endswith(TWIN_SUFFIX)
    ]
    return f"By {wording.view_name(view.view)} one more instance costs {wording.joined(said)} (slopes)."


def dots(evidence: Evidence, key: str, title: str, chosen: Sequence[Quantity], *, files: bool) -> Chart:
    """Return medians of several quantities of one metric, an arm per mark."""
    shared = shared_labels(chosen)
    axis = ", ".join((chosen[0].metric.title, *([wording.labels_in_words(shared)] if shared else [])))
    return make(
        key,
        title,
        figure=figures.dot_rows(
            [(_row_name(quantity, shared), _lines(evidence, quantity)) for quantity in chosen],
            write=wording.tick(chosen[0].unit),
            quantity=f"{_axis(axis, chosen)}; {wording.direction(chosen[0].metric.better)}",
            binary=chosen[0].unit in {Unit.BYTES, Unit.BYTES_PER_SECOND},
        ),
        finding=_medians_finding(evidence, chosen[0]),
        reading="Each row is one quantity, each mark an arm's median with a line from p10 to p90 of its trials. The "
        "axis is logarithmic; the A/A twin is drawn hollow.",
        table=tables.values_table(key, title, chosen, evidence.arms),
        files=files,
    )


def _medians_finding(evidence: Evidence, quantity: Quantity) -> str:
    better = wording.direction(quantity.metric.better)
    title = wording.sentence_case(quantity.title)
    return f"{title}, medians: {_medians(evidence, quantity)}; {better}."


def shared_labels(chosen: Sequence[Quantity]) -> tuple[tuple[str, str], ...]:
    """Return the labels that all quantities have alike: they need not stand in every row of a chart."""
    return tuple(pair for pair in chosen[0].labels if all(pair in quantity.labels for quantity in chosen))


def _row_name(quantity: Quantity, shared: Sequence[tuple[str, str]]) -> str:
    own = [pair for pair in quantity.labels if pair not in shared]
    return wording.labels_in_words(own).replace(", ", "\n", 1)


def depth_sweep(evidence: Evidence, key: str, title: str, chosen: Sequence[Quantity], *, files: bool) -> Chart:
    """Return a quantity against the queue depth, a small multiple per pattern, place and percentile."""
    panels: dict[str, list[Quantity]] = {}
    for quantity in chosen:
        rest = tuple(pair for pair in quantity.labels if pair[0] != "io_depth")
        panels.setdefault(wording.labels_in_words(rest), []).append(quantity)
    return make(
        key,
        title,
        figure=figures.sweep(
            [(name, _curves(evidence, members)) for name, members in panels.items()],
            write=wording.tick(chosen[0].unit),
            x_label="queue depth (operations in flight)",
            y_label=_axis(chosen[0].metric.title, chosen),
        ),
        finding=_medians_finding(evidence, chosen[0]),
        reading="Each panel is one pattern and percentile, all on the same axes; each curve joins an arm's medians "
        "over trials, with a line over their middle half (p25 to p75). At depth 1 nothing is overlapped: that "
        "latency is the honest overhead of an arm. Percentiles are taken within each job and never averaged.",
        table=tables.values_table(key, title, chosen, evidence.arms),
        files=files,
    )


def _curves(evidence: Evidence, members: Sequence[Quantity]) -> list[Curve]:
    names = series_order({name for quantity in members for name in quantity.series}, evidence)
    return [
        Curve(
            label=chart_label(name, evidence.arms),
            ink=ink(name, evidence),
            points=[_point(quantity, name) for quantity in members if name in quantity.series],
        )
        for name in names
    ]


def _point(quantity: Quantity, name: str) -> tuple[float, float, float, float]:
    values = pd.Series(quantity.series[name].values)
    return (
        float(quantity.label("io_depth") or 0),
        float(values.quantile(0.5)),
        float(values.quantile(0.25)),
        float(values.quantile(0.75)),
    )


def run_order(evidence: Evidence, quantity: Quantity, *, files: bool) -> Chart:
    """Return each trial in the order of the run above the steal time in it."""
    index_of = {int(line): int(index) for line, index in evidence.trials_frame[["line", "index"]].to_numpy()}
    lines = [
        (
            chart_label(name, evidence.arms),
            ink(name, evidence),
            [
                RunPoint(index=index_of[line], value=value, flagged=flag)
                for line, value, flag in zip(series.lines, series.values, series.flagged, strict=True)
            ],
        )
        for name, series in quantity.series.items()
    ]
    steal = [(int(index), float(value)) for index, value in evidence.trials_frame[["index", "steal_ns"]].to_numpy()]
    key = f"order-{wording.slug(quantity.workload)}"
    return make(
        key,
        f"Did the machine drift? {wording.sentence_case(quantity.title)}",
        figure=figures.run_order(
            lines,
            steal,
            write=wording.tick_ns,
            quantity=quantity.metric.title,
            order=_axis("trial, in the order of the run", [quantity]),
        ),
        finding=drift_finding(evidence, quantity),
        reading="Each mark is one trial, placed in the order in which it ran; arms alternate because every block holds "
        "each of them once. A ring marks a trial that a noise reading flagged. Below, on the same order, is the time "
        "that the hypervisor beneath this machine took away during each trial. A slope that all arms share is drift.",
        table=tables.flags_table(evidence),
        files=files,
    )


def drift_finding(evidence: Evidence, quantity: Quantity) -> str:
    """Say how the baseline's last third compares with its first, and how many trials were flagged."""
    series = quantity.series.get(evidence.run.suite.baseline)
    flagged = int(evidence.trials_frame["flagged"].sum())
    counted = f"{flagged} of {wording.plural(len(evidence.trials_frame), 'trial')} were flagged as disturbed."
    third = len(series.values) // 3 if series else 0
    if series is None or third == 0:
        return f"Too few trials of the baseline to speak of drift. {counted}"
    ratio = summary(series.values[-third:]).median / summary(series.values[:third]).median
    return (
        f"The baseline's median in the last third of the run is {wording.ratio(ratio)} times that of the first third "
        f"({third} trials each). {counted}"
    )
