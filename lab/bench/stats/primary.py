"""Trials -> an arm's value of a primary quantity, by block; what the stop rule, the summary and exports all read."""

from __future__ import annotations

from collections.abc import Sequence

from lab.bench.model import Cell, Primary, Trial, TrialKind, TrialStatus
from lab.bench.stats.ratio import block_values


def primary_values(trials: Sequence[Trial], primary: Primary, arm: str, *, twin: bool = False) -> dict[int, float]:
    """Return an arm's value of a primary quantity by measured block; the median where a trial gave several."""
    cell = Cell(workload=primary.workload, arm=arm, twin=twin)
    values = [
        (trial.block, float(sample.value))
        for trial in trials
        if trial.cell == cell and trial.kind is TrialKind.MEASURED and trial.status is TrialStatus.OK
        for sample in trial.samples
        if sample.metric == primary.metric and primary.labels.items() <= sample.labels.items()
    ]
    return block_values(values)
