"""The nouns of measuring: frozen, without behaviour. What they become on disk is in ``records.py``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Unit(StrEnum):
    """The unit of a metric; integer nanoseconds and bytes inside, other units on the page only."""

    NANOSECONDS = "ns"
    BYTES = "bytes"
    BYTES_PER_SECOND = "bytes_per_s"
    OPERATIONS_PER_SECOND = "per_s"
    COUNT = "count"
    RATIO = "ratio"


class Better(StrEnum):
    """Which direction is an improvement."""

    LOWER = "lower"
    HIGHER = "higher"
    NEITHER = "neither"


class TrialKind(StrEnum):
    """Why a trial was run; only MEASURED ones are estimated from, all are stored."""

    WARMUP = "warmup"
    MEASURED = "measured"


class TrialStatus(StrEnum):
    """How a trial ended."""

    OK = "ok"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A quantity that a workload or probe gives: "startup_wall" [ns], lower is better."""

    name: str
    unit: Unit
    better: Better
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One value of one metric; ``labels`` tell samples of one trial apart (view="pss", io_depth="1")."""

    metric: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Primary:
    """The quantity by which a workload is judged first, and on which the stop rule looks.

    ``workload`` is the key of a ``WorkloadUse``; ``labels`` must all be among a sample's labels.
    """

    workload: str
    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One place in a block: a workload (by the key of its use in the suite) on an arm.

    The A/A twin is the baseline's cell once more, ``twin`` set.
    """

    workload: str
    arm: str
    twin: bool = False

    @property
    def key(self) -> str:
        """A stable name for files and tables: "startup/container", "startup/process+twin"."""
        return f"{self.workload}/{self.arm}{'+twin' if self.twin else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One row of the comparison as the run found it.

    ``facts`` are the backend's own (accelerator, version, isolation); an arm that is not ``available`` is kept, with
    its reason, so that no report can leave it out silently. ``fairness`` says per question ("same kernel", "same
    image", …) "yes", or "no: reason".
    """

    name: str
    available: bool
    reason: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    fairness: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadUse:
    """A workload as a suite uses it: parameters, image name, limits.

    ``name`` tells two uses of one workload apart ("" when there is one); ``arms`` restricts it to some of the suite's
    arms (empty: all of them).
    """

    workload: str
    image: str
    vcpus: int
    memory_bytes: int
    parameters: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    name: str = ""
    arms: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """What cells, tables and files call this use."""
        return self.name or self.workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmDefinition:
    """An arm that a suite defines: the target ``use`` with ``options``, called ``name``."""

    name: str
    use: str
    options: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """A suite file, parsed. ``digest`` is the sha256 of the file's bytes.

    ``arms`` are names of targets, or of ``definitions``.
    """

    name: str
    title: str
    question: str
    digest: str
    arms: tuple[str, ...]
    baseline: str
    workloads: tuple[WorkloadUse, ...]
    warmup_blocks: int
    min_blocks: int
    max_blocks: int
    budget_ns: int
    target_half_width_ratio: float
    path: str = ""
    definitions: tuple[ArmDefinition, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The first line of results.jsonl: everything that all trials have in common.

    ``dimensions`` label every number (CPU, kernel, cgroup layout, versions, …); ``commit`` is the lab's own.
    ``order`` is the digest of the whole schedule that ``seed`` gives, so that a resumed run can prove its order.
    ``readings`` are what the host looked like before the first trial (load, free memory, harness overhead): they
    describe the run but, unlike the dimensions, need not be the same when it is resumed.
    """

    id: str
    schema: int
    started_at: str
    lab_version: str
    commit: str
    seed: int
    order: str
    suite: Suite
    arms: tuple[Arm, ...]
    images: Mapping[str, str]
    metrics: tuple[Metric, ...]
    dimensions: Mapping[str, str]
    primary: tuple[Primary, ...] = ()
    readings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """What disturbed the host during one trial: deltas from before to after.

    ``flags`` name the readings over their threshold ("steal", "pressure", "major_faults", "run_queue"); a flagged
    trial is shown, never dropped.
    """

    steal_ns: int = 0
    cpu_pressure_ns: int = 0
    io_pressure_ns: int = 0
    memory_pressure_ns: int = 0
    major_faults: int = 0
    run_queue: float = 0.0
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One start, one fio job, one reading: a line of results.jsonl.

    ``marks_ns`` are on the host's CLOCK_MONOTONIC, by name of ``MarkName``, in order of time; ``samples`` are raw.
    ``error`` is the reason when ``status`` is not OK, "" otherwise. ``wall_ns`` is all that the trial took, from before
    its target was laid out until that was gone; ``elapsed_ns`` the time of the whole run at its end, over all sessions.
    """

    cell: Cell
    kind: TrialKind
    block: int
    position: int
    status: TrialStatus
    started_at: str
    marks_ns: Mapping[str, int] = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    noise: Noise = field(default_factory=Noise)
    error: str = ""
    wall_ns: int = 0
    elapsed_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenUp:
    """A cell that is not tried again in its run, resumed or not: it failed ``failures`` times in a row.

    ``block`` is that of the last failure; ``reason`` is a sentence without a full stop; ``at`` is for people, in UTC.
    """

    cell: Cell
    block: int
    failures: int
    reason: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """The last line of a run: why it stopped ("half-width", "blocks", "budget", "given-up", "interrupted").

    A resumed run has one such line per session; the last one counts. ``blocks`` are complete measured ones;
    the CPU times are of the session that ended, ``elapsed_ns`` of all sessions so far, ``readings`` of the host after
    the last trial.
    """

    reason: str
    ended_at: str
    blocks: int
    harness_cpu_ns: int
    sampler_cpu_ns: int
    elapsed_ns: int = 0
    readings: Mapping[str, str] = field(default_factory=dict)
