"""Evidence -> lines of memory over the number of instances: what one more costs, and what all share.

The fit is ``bench.stats``'; this file finds the readings of each arm, trial by trial.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lab.bench.stats.density import Density, Readings, pool
from lab.report.frame import Evidence, measured
from lab.report.measures import series_order

READING, SLOPE = "density_reading", "density_slope"
"""Metrics: memory of all instances at one step, and the slope that the harness found in one trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One reading [bytes]: that of ``instances`` together, after one had come (``up``) or gone."""

    instances: int
    value: float
    up: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmLine:
    """One arm's readings of all trials, and the line that the trials share; ``lines`` are those of results.jsonl."""

    series: str
    points: tuple[Point, ...]
    fitted: Density
    trials: int
    lines: tuple[int, ...]

    @property
    def most(self) -> int:
        """The largest number of instances there was."""
        return max(point.instances for point in self.points)


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityView:
    """One view of memory of one workload, an arm's line each."""

    workload: str
    state: str
    view: str
    arms: tuple[ArmLine, ...]


def density_views(evidence: Evidence) -> tuple[DensityView, ...]:
    """Return the lines of every view that was read over a number of instances; none where no workload does that."""
    frame = measured(evidence.samples_frame)
    frame = frame[frame["metric"] == READING]
    labels = pd.DataFrame([json.loads(text) for text in frame["labels"]], index=frame.index)
    if frame.empty:
        return ()
    groups = frame.join(labels).groupby(["workload", "state", "view"], sort=False)
    return tuple(
        DensityView(workload=str(workload), state=str(state), view=str(view), arms=_arm_lines(evidence, group))
        for (workload, state, view), group in groups
    )


def _arm_lines(evidence: Evidence, group: pd.DataFrame) -> tuple[ArmLine, ...]:
    names = series_order(dict.fromkeys(str(name) for name in group["series"]), evidence)
    return tuple(_arm_line(name, group[group["series"] == name]) for name in names)


def _arm_line(series: str, group: pd.DataFrame) -> ArmLine:
    trials = [_points(trial) for _, trial in group.groupby("line", sort=False)]
    readings = [
        Readings(instances=[point.instances for point in trial], values=[point.value for point in trial])
        for trial in trials
    ]
    return ArmLine(
        series=series,
        points=tuple(point for trial in trials for point in trial),
        fitted=pool(readings),
        trials=len(trials),
        lines=tuple(sorted({int(line) for line in group["line"]})),
    )


def _points(trial: pd.DataFrame) -> Sequence[Point]:
    return [
        Point(instances=int(instances), value=float(value), up=direction == "up")
        for instances, value, direction in zip(trial["instances"], trial["value"], trial["direction"], strict=True)
    ]
