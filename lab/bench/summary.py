"""A run in one short table: each workload's primary quantity on each arm, against the baseline."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping

from lab.bench.model import Cell, Primary, TrialStatus
from lab.bench.records import Recording
from lab.bench.stats.primary import primary_values
from lab.bench.stats.ratio import log_ratios
from lab.bench.stats.verdict import Ratio, estimate_ratio, judge, noise_floor
from lab.units import writer


def rows(recording: Recording) -> list[dict[str, object]]:
    """Return one row per workload and arm, the A/A twin included, in the suite's order."""
    found = []
    for primary in recording.run.primary:
        twin = _ratio(recording, primary, recording.run.suite.baseline, twin=True)
        tau = noise_floor(twin)
        for arm in recording.run.arms:
            if arm.available:
                found.append(_row(recording, primary, arm.name, tau=tau, twin=False))
            if arm.name == recording.run.suite.baseline:
                found.append(_row(recording, primary, arm.name, tau=tau, twin=True))
    return [row for row in found if row["trials"] or row["failed"]]


def _row(recording: Recording, primary: Primary, arm: str, *, tau: float, twin: bool) -> dict[str, object]:
    values = primary_values(recording.trials, primary, arm, twin=twin)
    ratio = _ratio(recording, primary, arm, twin=twin)
    is_base = arm == recording.run.suite.baseline and not twin
    cell = Cell(workload=primary.workload, arm=arm, twin=twin)
    emulated = dict(_facts(recording, arm)).get("accelerator") == "tcg"
    name = f"{arm} (A/A twin)" if twin else f"{arm} (software emulation)" if emulated else arm
    return {
        "workload": primary.workload,
        "target": name,
        "metric": primary.metric,
        "median": _write(recording, primary, values),
        "ratio": "1" if is_base else "" if ratio is None else f"{ratio.ratio:.3g}",
        "interval": "baseline" if is_base else "" if ratio is None else _interval(ratio),
        "verdict": _verdict(recording, cell, None if is_base else ratio, tau),
        "trials": len(values),
        "failed": sum(trial.cell == cell and trial.status is TrialStatus.FAILED for trial in recording.trials),
    }


def _verdict(recording: Recording, cell: Cell, ratio: Ratio | None, tau: float) -> str:
    if any(record.cell == cell for record in recording.given_up):
        return "given up"
    return "" if ratio is None else str(judge(ratio, tau).conclusion)


def _facts(recording: Recording, arm: str) -> Mapping[str, str]:
    return next(candidate.facts for candidate in recording.run.arms if candidate.name == arm)


def _ratio(recording: Recording, primary: Primary, arm: str, *, twin: bool) -> Ratio | None:
    base = primary_values(recording.trials, primary, recording.run.suite.baseline)
    logs = log_ratios(primary_values(recording.trials, primary, arm, twin=twin), base)
    return estimate_ratio(logs) if logs else None


def _interval(ratio: Ratio) -> str:
    return "one block only" if math.isinf(ratio.high) else f"{ratio.low:.3g} to {ratio.high:.3g}"


def _write(recording: Recording, primary: Primary, values: Mapping[int, float]) -> str:
    if not values:
        return ""
    unit = next(metric.unit for metric in recording.run.metrics if metric.name == primary.metric)
    return writer(unit)(statistics.median(values.values()))
