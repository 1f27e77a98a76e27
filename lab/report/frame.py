"""results.jsonl -> tidy frames, one row per sample; nothing is averaged here.

Every row carries ``line``, the 1-based line of results.jsonl that it came from: that is how a number on the page is
traced. The frames:

    samples   one row per sample of every trial, warm-ups and failed trials included
    trials    one row per trial: status, error, noise readings, total from request to ready
    phases    one row per phase of a trial, from one mark that is there to the next

Durations are nanoseconds and sizes bytes, as recorded.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lab.bench import records
from lab.bench.model import Better, GivenUp, Metric, Run, RunEnd, Trial, TrialKind, TrialStatus, Unit
from lab.errors import MeasurementError
from lab.report.arms import TWIN_SUFFIX, ArmView, series_key, views
from lab.target.spec import MarkName

STARTUP_TOTAL = "startup_wall"
"""The metric that the harness records for request to ready; marks give the same total independently."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A run with its frames: all that a report is made from."""

    path: str
    run: Run
    end: RunEnd | None
    trials: tuple[Trial, ...]
    lines: tuple[int, ...]
    arms: Mapping[str, ArmView]
    samples_frame: pd.DataFrame
    trials_frame: pd.DataFrame
    phases_frame: pd.DataFrame
    given_up: tuple[GivenUp, ...] = ()

    def metric(self, name: str) -> Metric:
        """Return what the run says about a metric; a name that it never declared is a plain count."""
        for metric in self.run.metrics:
            if metric.name == name:
                return metric
        return Metric(name=name, unit=Unit.COUNT, better=Better.NEITHER, title=name.replace("_", " "))

    @property
    def failed(self) -> tuple[tuple[int, Trial], ...]:
        """The trials that did not end well, each with its line."""
        pairs = zip(self.lines, self.trials, strict=True)
        return tuple((line, trial) for line, trial in pairs if trial.status is not TrialStatus.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The measured values of one quantity on one line of data, in run order.

    ``labels`` tell quantities of one metric apart; ``series`` is the arm, or its A/A twin.
    """

    workload: str
    metric: str
    labels: tuple[tuple[str, str], ...]
    series: str
    values: tuple[float, ...]
    blocks: tuple[int, ...]
    lines: tuple[int, ...]
    flagged: tuple[bool, ...]

    @property
    def is_twin(self) -> bool:
        """Whether this is the A/A twin of the baseline."""
        return self.series.endswith(TWIN_SUFFIX)

    @property
    def label_text(self) -> str:
        """The labels as "io_depth=1, view=pss", "" when there are none."""
        return label_text(self.labels)

    def by_block(self) -> dict[int, float]:
        """Return the value of each block; the median of it where a trial gave several."""
        grouped = pd.Series(self.values, index=self.blocks).groupby(level=0).median()
        return {int(str(block)): float(value) for block, value in grouped.items()}

    def quiet(self) -> Series:
        """Return the series without the samples of trials that a noise reading flagged."""
        keep = [index for index, flag in enumerate(self.flagged) if not flag]
        return Series(
            workload=self.workload,
            metric=self.metric,
            labels=self.labels,
            series=self.series,
            values=tuple(self.values[index] for index in keep),
            blocks=tuple(self.blocks[index] for index in keep),
            lines=tuple(self.lines[index] for index in keep),
            flagged=tuple(False for _ in keep),
        )


def label_text(labels: Sequence[tuple[str, str]]) -> str:
    """Return labels as one canonical text: "io_depth=1, view=pss"."""
    return ", ".join(f"{key}={value}" for key, value in sorted(labels))


def load(path: str) -> Evidence:
    """Return the evidence of a run's directory or results file.

    Raises:
        MeasurementError: it cannot be read, is damaged, or holds no trial.
    """
    recording = records.read(path)
    lines = trial_lines(recording.path, recording.complete_bytes)
    if not recording.trials:
        raise MeasurementError(f"{recording.path}: there is no trial in it", hint="resume it: lab bench resume RUN")
    found = evidence(recording.path, recording.run, recording.end, recording.trials, lines)
    return replace(found, given_up=recording.given_up)


def evidence(
    path: str, run: Run, end: RunEnd | None, trials: Sequence[Trial], lines: Sequence[int] | None = None
) -> Evidence:
    """Return the evidence that these records are; ``lines`` default to trials that follow the run's line."""
    numbers = tuple(lines) if lines is not None else tuple(range(2, 2 + len(trials)))
    placed = list(zip(numbers, trials, strict=True))
    return Evidence(
        path=path,
        run=run,
        end=end,
        trials=tuple(trials),
        lines=numbers,
        arms=views(run),
        samples_frame=_samples(placed),
        trials_frame=_trials(placed),
        phases_frame=_phases(placed),
    )


def trial_lines(path: str, complete_bytes: int) -> tuple[int, ...]:
    """Return the 1-based line numbers of the trial records in a results file."""
    with open(os.fspath(path), "rb") as file:
        data = file.read(complete_bytes)
    kinds = (json.loads(line).get("type") for line in data.splitlines())
    return tuple(number for number, kind in enumerate(kinds, start=1) if kind == "trial")


def series_of(frame: pd.DataFrame) -> tuple[Series, ...]:
    """Return the measured, successful samples of a samples frame as series, in order of first appearance."""
    keys = ["workload", "metric", "labels", "series"]
    return tuple(_series(group) for _, group in measured(frame).groupby(keys, sort=False))


def measured(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of measured trials that ended well."""
    return frame[(frame["kind"] == TrialKind.MEASURED.value) & (frame["status"] == TrialStatus.OK.value)]


def _series(group: pd.DataFrame) -> Series:
    first = group.iloc[0]
    pairs: dict[str, str] = json.loads(str(first["labels"]))
    return Series(
        workload=str(first["workload"]),
        metric=str(first["metric"]),
        labels=tuple(sorted(pairs.items())),
        series=str(first["series"]),
        values=tuple(float(value) for value in group["value"]),
        blocks=tuple(int(value) for value in group["block"]),
        lines=tuple(int(value) for value in group["line"]),
        flagged=tuple(bool(value) for value in group["flagged"]),
    )


def _place(line: int, index: int, trial: Trial) -> dict[str, object]:
    return {
        "line": line,
        "index": index,
        "block": trial.block,
        "position": trial.position,
        "kind": trial.kind.value,
        "status": trial.status.value,
        "workload": trial.cell.workload,
        "arm": trial.cell.arm,
        "twin": trial.cell.twin,
        "series": series_key(trial.cell.arm, twin=trial.cell.twin),
        "flagged": bool(trial.noise.flags),
    }


SAMPLE_COLUMNS = ("line", "index", "block", "position", "kind", "status", "workload", "arm", "twin", "series")


def _samples(placed: Sequence[tuple[int, Trial]]) -> pd.DataFrame:
    rows = [
        _place(line, index, trial)
        | {
            "metric": sample.metric,
            "labels": json.dumps(dict(sorted(sample.labels.items()))),
            "value": sample.value,
        }
        for index, (line, trial) in enumerate(placed)
        for sample in trial.samples
    ]
    return pd.DataFrame(rows, columns=[*SAMPLE_COLUMNS, "flagged", "metric", "labels", "value"])


def _trials(placed: Sequence[tuple[int, Trial]]) -> pd.DataFrame:
    return pd.DataFrame([_place(line, index, trial) | _readings(trial) for index, (line, trial) in enumerate(placed)])


def _readings(trial: Trial) -> dict[str, object]:
    noise = trial.noise
    return {
        "started_at": trial.started_at,
        "total_ns": total_ns(trial.marks_ns),
        "recorded_total_ns": next((s.value for s in trial.samples if s.metric == STARTUP_TOTAL), None),
        "teardown_ns": _between(trial.marks_ns, MarkName.STOP_REQUESTED, MarkName.GONE),
        "flags": " ".join(noise.flags),
        "steal_ns": noise.steal_ns,
        "cpu_pressure_ns": noise.cpu_pressure_ns,
        "io_pressure_ns": noise.io_pressure_ns,
        "memory_pressure_ns": noise.memory_pressure_ns,
        "major_faults": noise.major_faults,
        "run_queue": noise.run_queue,
        "error": trial.error,
    }


def _between(marks_ns: Mapping[str, int], first: str, last: str) -> int | None:
    return marks_ns[last] - marks_ns[first] if first in marks_ns and last in marks_ns else None


def total_ns(marks_ns: Mapping[str, int]) -> int | None:
    """Return the nanoseconds from request to ready, None when a trial lacks either mark."""
    return _between(marks_ns, MarkName.REQUESTED, MarkName.READY)


START_MARKS = (
    MarkName.REQUESTED,
    MarkName.SPAWNED,
    MarkName.NAMESPACES,
    MarkName.ENVIRONMENT,
    MarkName.KERNEL,
    MarkName.USERSPACE,
    MarkName.READY,
)


def phases_of(marks_ns: Mapping[str, int]) -> tuple[tuple[MarkName, int], ...]:
    """Return (mark that ends the phase, its nanoseconds), from one mark that is there to the next, up to ready."""
    present = [mark for mark in START_MARKS if mark in marks_ns]
    if not present or present[0] is not MarkName.REQUESTED or present[-1] is not MarkName.READY:
        return ()
    pairs = itertools.pairwise(present)
    return tuple((end, marks_ns[end] - marks_ns[start]) for start, end in pairs)


def _phases(placed: Sequence[tuple[int, Trial]]) -> pd.DataFrame:
    rows = [
        _place(line, index, trial)
        | {"phase": mark.value, "duration_ns": duration_ns, "total_ns": total_ns(trial.marks_ns)}
        for index, (line, trial) in enumerate(placed)
        for mark, duration_ns in phases_of(trial.marks_ns)
    ]
    return pd.DataFrame(rows, columns=[*SAMPLE_COLUMNS, "flagged", "phase", "duration_ns", "total_ns"])
