"""Evidence -> tables of finished text; each table can be recomputed from results.jsonl by its name."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd

from lab.bench.stats.bootstrap import Interval
from lab.report import wording
from lab.report.arms import ArmView, answer_reason, is_yes, series_key, series_label
from lab.report.density import READING, DensityView
from lab.report.frame import Evidence, measured
from lab.report.measures import Comparison, Quantity, noise_pairs, summary
from lab.report.page import Align, Column, Table
from lab.units import format_bytes, format_duration_ns, format_percent, writer

FAIRNESS = "fairness"
"""The key of the fairness card, whose answers a page may mark."""

NUMBER = Align.NUMBER
LINES = Column(title="lines of results.jsonl", align=Align.LINES)


def trace(workload: str, metric: str) -> str:
    """Return the command that prints the raw values of a metric, one trial per line."""
    return (
        f"""jq -c 'select(.type=="trial" and .kind=="measured" and .cell.workload=="{workload}") | """
        f"""[.cell.arm, .cell.twin, .block, (.samples[] | select(.metric=="{metric}") | .value)]' results.jsonl"""
    )


def columns(*titles: str, lines: bool = True) -> tuple[Column, ...]:
    """Return headings: a name first, then numbers; a title that begins with "~" is set as text."""
    made = [
        Column(title=title.removeprefix("~"), align=Align.TEXT if title.startswith("~") or not index else NUMBER)
        for index, title in enumerate(titles)
    ]
    return (*made, LINES) if lines else tuple(made)


def values_table(key: str, title: str, quantities: Sequence[Quantity], arms: Mapping[str, ArmView]) -> Table:
    """Return n, percentiles and extremes of each arm on each quantity."""
    rows = []
    for quantity in quantities:
        write = writer(quantity.unit)
        for series in quantity.series.values():
            found = summary(series.values)
            rows.append(
                (
                    f"{quantity.title}",
                    series_label(series.series, arms),
                    str(found.count),
                    write(found.median),
                    write(found.p90),
                    "too few" if found.p99 is None else write(found.p99),
                    write(found.minimum),
                    write(found.maximum),
                    wording.span(series.lines),
                )
            )
    first = quantities[0] if quantities else None
    return Table(
        key=key,
        title=title,
        columns=columns("quantity", "~arm", "n", "p50", "p90", "p99", "smallest", "largest"),
        rows=tuple(rows),
        note="Measured trials that ended well; p99 only from 300 samples on.",
        trace=trace(first.workload, first.metric.name) if first else "",
    )


def ratio_table(key: str, title: str, comparisons: Sequence[Comparison], arms: Mapping[str, ArmView]) -> Table:
    """Return the ratio of each arm to its reference with interval and what it says."""
    return Table(
        key=key,
        title=title,
        columns=columns("quantity", "~arm", "ratio", "95 % interval", "blocks", "band", "~reading"),
        rows=tuple(
            (
                comparison.quantity.title,
                series_label(comparison.subject, arms),
                f"{wording.ratio(comparison.ratio.ratio)}×",
                wording.interval(comparison.ratio.low, comparison.ratio.high),
                str(comparison.ratio.count),
                f"±{format_percent(comparison.verdict.noise_floor_ratio)}",
                comparison.reading,
                wording.span(comparison.lines),
            )
            for comparison in comparisons
        ),
        note=f"Ratio to {comparisons[0].reference} in the same block; the interval is a BCa bootstrap over blocks."
        if comparisons
        else "",
        trace=trace(comparisons[0].quantity.workload, comparisons[0].quantity.metric.name) if comparisons else "",
    )


def fairness_table(arms: Mapping[str, ArmView]) -> Table:
    """Return the fairness card: a question per row, an arm per column, yes or no with the reason.

    What most arms give as the reason of their yes stands once, beside the question.
    """
    present = [arm for arm in arms.values() if arm.available]
    questions = list(dict.fromkeys(question for arm in present for question in arm.fairness))
    return Table(
        key=FAIRNESS,
        title="Fairness card",
        columns=(Column(title="question"), Column(title="yes means"), *(Column(title=arm.label) for arm in present)),
        rows=tuple(_fairness_row(question, present) for question in questions),
        note="One no lowers every verdict in which that arm takes part to indicative.",
    )


def _fairness_row(question: str, present: Sequence[ArmView]) -> tuple[str, ...]:
    answers = [arm.fairness[question] for arm in present if question in arm.fairness]
    reasons = Counter(answer_reason(answer) for answer in answers if is_yes(answer))
    shared = reasons.most_common(1)[0][0] if reasons else ""
    return (_question(question), shared, *(_answer(arm, question, shared) for arm in present))


def _question(text: str) -> str:
    return text if text.endswith("?") else f"{text}?"


def _answer(arm: ArmView, question: str, shared: str) -> str:
    if question not in arm.fairness:
        return "not recorded"
    answer = arm.fairness[question]
    reason = answer_reason(answer)
    if is_yes(answer):
        return "yes" if reason in {"", shared} else f"yes: {reason}"
    return f"no: {reason}" if reason else "no"


def phases_table(evidence: Evidence, workload: str, order: Sequence[str]) -> Table:
    """Return the median and quartiles of each phase of each arm, and of the total, which is measured on its own."""
    frame = measured(evidence.phases_frame)
    rows: list[tuple[str, ...]] = []
    for series, group in frame[frame["workload"] == workload].groupby("series", sort=False):
        for phase in (name for name in order if (group["phase"] == name).any()):
            part = group[group["phase"] == phase]
            rows.append(
                _quartile_row(evidence, str(series), wording.PHASES.get(phase, phase), part["duration_ns"], part)
            )
        once = group.drop_duplicates("line")
        rows.append(_quartile_row(evidence, str(series), "total, measured apart", once["total_ns"], once))
    return Table(
        key=f"phases-{workload}",
        title=f"Phases from request to ready, {workload}",
        columns=columns("arm", "~phase, named for its end", "n", "p50", "p25", "p75"),
        rows=tuple(rows),
        note="Medians of phases do not add up to the median of the total; within each trial the phases do.",
        trace=f"""jq -c 'select(.type=="trial" and .kind=="measured" and .cell.workload=="{workload}") | """
        """[.cell.arm, .cell.twin, .marks_ns]' results.jsonl""",
    )


def _quartile_row(
    evidence: Evidence, series: str, phase: str, values: pd.Series[float], rows: pd.DataFrame
) -> tuple[str, ...]:
    quartiles = (values.quantile(share) for share in (0.5, 0.25, 0.75))
    return (
        series_label(series, evidence.arms),
        phase,
        str(len(values)),
        *(format_duration_ns(float(value)) for value in quartiles),
        wording.span([int(line) for line in rows["line"]]),
    )


def noise_table(quantities: Sequence[Quantity], baseline: str, arms: Mapping[str, ArmView]) -> Table:
    """Return each headline ratio from all samples, and again without those of flagged trials."""
    return Table(
        key="noise",
        title="Headline ratios with and without the flagged trials",
        columns=columns("quantity", "~arm", "trials", "flagged", "ratio, all", "ratio, without flagged", lines=False),
        rows=tuple(
            (
                pair.quantity.title,
                series_label(pair.series, arms),
                str(pair.trials),
                str(pair.flagged),
                pair.everything,
                pair.quiet,
            )
            for pair in noise_pairs(quantities, baseline)
        ),
        note="Flagged trials are counted, never dropped; where the two ratios differ, the machine was too busy.",
    )


def flags_table(evidence: Evidence) -> Table:
    """Return how many trials each noise reading flagged, by arm, and the largest readings."""
    rows = []
    frame = evidence.trials_frame
    for series, group in frame.groupby("series", sort=False):
        flagged = group[group["flagged"]]
        names = sorted({name for text in flagged["flags"] for name in str(text).split()})
        rows.append(
            (
                series_label(str(series), evidence.arms),
                str(len(group)),
                str(len(flagged)),
                ", ".join(name.replace("_", " ") for name in names) or "none",
                format_duration_ns(float(group["steal_ns"].max())),
                format_duration_ns(float(group["cpu_pressure_ns"].max())),
                format_duration_ns(float(group["io_pressure_ns"].max())),
                f"{int(group['major_faults'].max()):,}",
            )
        )
    return Table(
        key="flags",
        title="What disturbed the trials",
        columns=columns(
            "arm", "trials", "flagged", "~by", "most steal time", "most CPU pressure", "most IO pressure",
            "most major faults", lines=False,
        ),
        rows=tuple(rows),
        note="All trials, warm-ups included; readings are deltas over one trial.",
    )  # fmt: skip


def failures_table(evidence: Evidence) -> Table:
    """Return every trial that did not end well, with its reason."""
    return Table(
        key="failures",
        title="Trials that failed",
        columns=(Column(title="arm"), Column(title="workload"), Column(title="block", align=NUMBER),
                 Column(title="how it ended"), Column(title="reason"), LINES),
        rows=tuple(
            (
                series_label(series_key(trial.cell.arm, twin=trial.cell.twin), evidence.arms),
                trial.cell.workload,
                str(trial.block),
                trial.status.value,
                trial.error,
                str(line),
            )
            for line, trial in evidence.failed
        ),
    )  # fmt: skip


def density_table(key: str, view: DensityView, arms: Mapping[str, ArmView]) -> Table:
    """Return each arm's slope and intercept with their intervals, and how far it got."""
    return Table(
        key=key,
        title=f"Memory of each further instance, {wording.view_name(view.view)}, {view.state} ({view.workload})",
        columns=columns("arm", "one more instance", "paid once", "trials", "most instances"),
        rows=tuple(
            (
                series_label(arm.series, arms),
                size_interval(arm.fitted.slope),
                size_interval(arm.fitted.intercept),
                str(arm.trials),
                str(arm.most),
                wording.span(arm.lines),
            )
            for arm in view.arms
        ),
        note="Slope and intercept with 95 % intervals over trials; never a total divided by a number.",
        trace=trace(view.workload, READING),
    )


def size_interval(interval: Interval) -> str:
    """Return a size with its 95 % interval: "1.95 MiB [1.90 MiB, 2.01 MiB]"; an end that is not known is open."""
    low, high = (format_bytes(end) if math.isfinite(end) else "open" for end in (interval.low, interval.high))
    return f"{format_bytes(interval.estimate)} [{low}, {high}]"


def given_up_table(evidence: Evidence) -> Table:
    """Return the cells that the run stopped trying, with the reason."""
    return Table(
        key="given-up",
        title="Given up for the rest of the run",
        columns=columns("arm", "~workload", "block", "failures in a row", "~reason", lines=False),
        rows=tuple(
            (
                series_label(series_key(given_up.cell.arm, twin=given_up.cell.twin), evidence.arms),
                given_up.cell.workload,
                str(given_up.block),
                str(given_up.failures),
                given_up.reason,
            )
            for given_up in evidence.given_up
        ),
    )


def absent_table(arms: Mapping[str, ArmView]) -> Table:
    """Return the arms that the suite asked for and this host could not give."""
    return Table(
        key="absent",
        title="Arms that cannot be measured here",
        columns=(Column(title="arm"), Column(title="reason, found by trying")),
        rows=tuple((arm.label, arm.reason) for arm in arms.values() if not arm.available),
    )


def labels_of(text: str) -> dict[str, str]:
    """Return the labels that a samples frame keeps as JSON."""
    parsed: dict[str, str] = json.loads(text)
    return parsed
