"""A run in other programs' forms: CSV, JSON, and pytest-benchmark's JSON for its ``compare``."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Any  # a JSON document for another program has no type of ours

from lab.bench.document import encode
from lab.bench.model import Primary, Run, Unit
from lab.bench.records import Recording
from lab.bench.stats.primary import primary_values
from lab.units import NS_PER_S


class ExportFormat(StrEnum):
    """What a run can be written as."""

    CSV = "csv"
    JSON = "json"
    PYTEST_BENCHMARK = "pytest-benchmark"


_COLUMNS = ("block", "position", "kind", "status", "workload", "arm", "twin", "metric", "labels", "value", "unit")


def export(recording: Recording, output_format: ExportFormat) -> str:
    """Return the run as text in that form."""
    match output_format:
        case ExportFormat.CSV:
            return _csv(recording)
        case ExportFormat.JSON:
            return json.dumps(_document(recording), indent=2, ensure_ascii=False) + "\n"
        case ExportFormat.PYTEST_BENCHMARK:
            return json.dumps(_pytest_benchmark(recording), indent=2) + "\n"


def _document(recording: Recording) -> dict[str, Any]:
    return {
        "run": encode(recording.run),
        "trials": encode(recording.trials),
        "end": None if recording.end is None else encode(recording.end),
    }


def _csv(recording: Recording) -> str:
    units = {metric.name: str(metric.unit) for metric in recording.run.metrics}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for trial in recording.trials:
        cell = trial.cell
        for sample in trial.samples:
            labels = ";".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            place = (trial.block, trial.position, trial.kind, trial.status, cell.workload, cell.arm, int(cell.twin))
            writer.writerow((*place, sample.metric, labels, sample.value, units.get(sample.metric, "")))
    return text.getvalue()


def _pytest_benchmark(recording: Recording) -> dict[str, Any]:
    """Return pytest-benchmark's document: a benchmark is a primary quantity in time, on one arm; its rounds are blocks.

    Source: pytest-benchmark, "Storage" and the files of its ``--benchmark-json``.
    """
    run = recording.run
    benchmarks = [
        _benchmark(run, primary, arm, seconds)
        for primary in run.primary
        for arm, seconds in _rounds(recording, primary)
        if seconds
    ]
    return {
        "machine_info": _machine_info(run),
        "commit_info": {"id": run.commit, "time": run.started_at, "dirty": "+" in run.commit, "branch": ""},
        "benchmarks": benchmarks,
        "datetime": run.started_at,
        "version": "4.0.0",
    }


def _machine_info(run: Run) -> dict[str, Any]:
    dimensions = run.dimensions
    cpu = {"brand_raw": dimensions.get("cpu_model", ""), "count": int(dimensions.get("cpus", "0"))}
    return {
        "node": "lab",
        "machine": dimensions.get("architecture", ""),
        "system": "Linux",
        "release": dimensions.get("kernel", ""),
        "python_version": dimensions.get("python", ""),
        "cpu": cpu,
    }


def _rounds(recording: Recording, primary: Primary) -> Iterator[tuple[str, list[float]]]:
    units = {metric.name: metric.unit for metric in recording.run.metrics}
    if units.get(primary.metric) is not Unit.NANOSECONDS:
        return  # pytest-benchmark knows only times
    for arm in recording.run.arms:
        values = primary_values(recording.trials, primary, arm.name)
        yield arm.name, [value / NS_PER_S for _, value in sorted(values.items())]


def _benchmark(run: Run, primary: Primary, arm: str, seconds: Sequence[float]) -> dict[str, Any]:
    name = f"{primary.workload}[{arm}]"
    return {
        "group": primary.workload,
        "name": name,
        "fullname": f"lab/{run.suite.name}::{name}",
        "params": {"arm": arm},
        "param": arm,
        "extra_info": {"run": run.id, "metric": primary.metric},
        "options": {
            "disable_gc": True,
            "timer": "monotonic",
            "min_rounds": run.suite.min_blocks,
            "max_time": run.suite.budget_ns / NS_PER_S,
            "min_time": 0.0,
            "warmup": run.suite.warmup_blocks > 0,
        },
        "stats": _stats(seconds),
    }


def _stats(seconds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    mean = statistics.fmean(ordered)
    quarters = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    spread = quarters[2] - quarters[0]
    fences = (quarters[0] - 1.5 * spread, quarters[2] + 1.5 * spread)
    deviation = statistics.stdev(ordered) if len(ordered) > 1 else 0.0
    beyond = sum(not fences[0] <= value <= fences[1] for value in ordered)
    outliers = sum(abs(value - mean) > deviation for value in ordered)
    return {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": mean,
        "stddev": deviation,
        "rounds": len(ordered),
        "median": statistics.median(ordered),
        "iqr": spread,
        "q1": quarters[0],
        "q3": quarters[2],
        "iqr_outliers": beyond,
        "stddev_outliers": outliers,
        "outliers": f"{outliers};{beyond}",
        "ld15iqr": min((value for value in ordered if value >= fences[0]), default=ordered[0]),
        "hd15iqr": max((value for value in ordered if value <= fences[1]), default=ordered[-1]),
        "ops": 1 / mean if mean else 0.0,
        "total": sum(ordered),
        "iterations": 1,
        "data": list(seconds),
    }
