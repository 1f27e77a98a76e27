"""The bench's invented run with arms of one's own choice, for tests of the report; no machine was measured."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unit.bench import sample_run
from unit.bench.sample_run import MIB, MS

from lab.bench import records
from lab.bench.model import Arm, Cell, Noise, Run, RunEnd, Sample, Trial, TrialKind, TrialStatus

VIEWS = ("pss", "pss_anon", "pss_file", "uss", "rss", "cgroup", "cgroup_working_set", "host_available_drop")

FAIR = {"same kernel": "yes", "same image": "yes", "same limits": "yes", "same file system": "yes"}
GUEST_FAIR = {**FAIR, "same kernel": "no: a guest kernel of its own", "same file system": "no: ext4 on virtio-blk"}


@dataclass(frozen=True)
class Synthetic:
    """One arm of a synthetic run: its phases [ms], its memory [MiB] and its slow-down under load."""

    name: str
    isolation: str
    phases_ms: Mapping[str, float]
    memory_mib: float
    slowdown: float = 1.0
    facts: Mapping[str, str] = field(default_factory=dict)
    fairness: Mapping[str, str] = field(default_factory=lambda: FAIR)
    available: bool = True
    reason: str = ""

    def arm(self) -> Arm:
        facts = {"isolation": self.isolation, "accelerator": "none", **self.facts}
        return Arm(
            name=self.name, available=self.available, reason=self.reason, facts=facts, fairness=dict(self.fairness)
        )


PROCESS = Synthetic("process", "process", {"spawned": 1.1, "userspace": 0.6, "ready": 1.0}, 1.1)
CONTAINER = Synthetic(
    "container",
    "namespaces",
    {"spawned": 1.6, "namespaces": 1.2, "environment": 2.6, "userspace": 0.8, "ready": 1.1},
    1.6,
)
PEER = Synthetic("peer", "namespaces", {"spawned": 14.0, "userspace": 9.0, "ready": 1.4}, 2.6)
EMULATED = Synthetic(
    "guest-a",
    "vm",
    {"spawned": 380.0, "environment": 30.0, "kernel": 45.0, "userspace": 1180.0, "ready": 60.0},
    168.0,
    slowdown=9.0,
    facts={"accelerator": "tcg", "version": "7.2"},
    fairness={**GUEST_FAIR, "hardware acceleration": "no: software emulation"},
)
ACCELERATED = Synthetic(
    "guest-b",
    "vm",
    {"spawned": 340.0, "environment": 20.0, "kernel": 6.0, "userspace": 90.0, "ready": 9.0},
    150.0,
    slowdown=1.3,
    facts={"accelerator": "kvm"},
    fairness=GUEST_FAIR,
)
ABSENT = replace(ACCELERATED, available=False, reason="/dev/kvm opens, but a stock Linux guest does not boot on it")


def run(arms: Sequence[Synthetic], *, blocks: int, seed: int) -> Run:
    """Return the run record of the bench's invented run, with these arms and two of its workloads."""
    invented = sample_run.sample_run(seed)
    uses = {use.key: use for use in invented.suite.workloads}
    suite = replace(
        invented.suite,
        name="synthetic",
        arms=tuple(arm.name for arm in arms),
        baseline=arms[0].name,
        workloads=(uses["startup"], uses["disk"]),
        min_blocks=min(5, blocks),
        max_blocks=blocks,
    )
    return replace(
        invented,
        id=f"20261124-0412-synthetic-{seed:04x}",
        suite=suite,
        arms=tuple(arm.arm() for arm in arms),
        primary=tuple(primary for primary in invented.primary if primary.workload in {"startup", "disk"}),
    )


def boot_trial(arm: Synthetic, draw: random.Random, *, block: int, position: int, twin: bool) -> Trial:
    at_ns = 1_000_000 * MS + block * 50_000 * MS + position * 4_000 * MS
    marks = {"requested": at_ns}
    for name, phase_ms in arm.phases_ms.items():
        at_ns += int(phase_ms * MS * draw.lognormvariate(0.0, 0.06))
        marks[name] = at_ns
    total_ns = at_ns - marks["requested"]
    marks |= {"stop_requested": at_ns + 5 * MS, "gone": at_ns + 5 * MS + int(2.5 * MS * draw.lognormvariate(0, 0.2))}
    steal_ns = int(draw.expovariate(1.0) * 2 * MS)
    samples = [Sample(metric="startup_wall", value=float(total_ns))]
    for view in VIEWS:
        value = arm.memory_mib * MIB * draw.lognormvariate(0.0, 0.02)
        samples.append(Sample(metric="memory", value=float(int(value)), labels={"view": view, "state": "idle"}))
    return Trial(
        cell=Cell(workload="startup", arm=arm.name, twin=twin),
        kind=TrialKind.WARMUP if block < 1 else TrialKind.MEASURED,
        block=block,
        position=position,
        status=TrialStatus.OK,
        started_at=f"2026-11-24T04:{13 + block % 40:02d}:{position:02d}+00:00",
        marks_ns=marks,
        samples=tuple(samples),
        noise=Noise(steal_ns=steal_ns, flags=("steal",) if steal_ns > 5 * MS else ()),
    )


def disk_trial(arm: Synthetic, draw: random.Random, *, block: int, position: int, twin: bool) -> Trial:
    samples = []
    for depth in (1, 4, 16):
        labels = {"place": "data", "pattern": "randread", "io_depth": str(depth)}
        base_ns = 80_000 * arm.slowdown * depth**0.6 * draw.lognormvariate(0.0, 0.01)
        for percentile, factor in (("50", 1.0), ("90", 1.5), ("99", 3.0)):
            value = float(int(base_ns * factor))
            samples.append(Sample(metric="io_latency", value=value, labels={**labels, "percentile": percentile}))
        rate = float(int(4096 * depth / (base_ns / 1e9)))
        samples.append(Sample(metric="io_rate", value=rate, labels=labels))
    return Trial(
        cell=Cell(workload="disk", arm=arm.name, twin=twin),
        kind=TrialKind.WARMUP if block < 1 else TrialKind.MEASURED,
        block=block,
        position=position,
        status=TrialStatus.OK,
        started_at="2026-11-24T04:30:00+00:00",
        samples=tuple(samples),
    )


DEFAULT_ARMS = (PROCESS, CONTAINER, PEER, EMULATED, ABSENT)


def trials(arms: Sequence[Synthetic], *, blocks: int, seed: int, disk: bool = True) -> tuple[Trial, ...]:
    """Return a warm-up block and ``blocks`` measured ones, each with the A/A twin of the first arm."""
    draw = random.Random(seed)
    made: list[Trial] = []
    present = [arm for arm in arms if arm.available]
    for block in range(blocks + 1):
        cells = [(arm, False) for arm in present] + [(present[0], True)]
        draw.shuffle(cells)
        for position, (arm, twin) in enumerate(cells):
            made.append(boot_trial(arm, draw, block=block, position=position, twin=twin))
            if disk:
                made.append(disk_trial(arm, draw, block=block, position=position, twin=twin))
    return tuple(made)


def failed_trial(arm: str, block: int) -> Trial:
    return Trial(
        cell=Cell(workload="startup", arm=arm),
        kind=TrialKind.MEASURED,
        block=block,
        position=0,
        status=TrialStatus.FAILED,
        started_at="2026-11-24T04:20:00+00:00",
        error="guest-a: start: no ready byte within 60 s; last console line: Kernel panic",
    )


END = RunEnd(
    reason="blocks",
    ended_at="2026-11-24T04:16:00+00:00",
    blocks=12,
    harness_cpu_ns=900 * MS,
    sampler_cpu_ns=300 * MS,
    elapsed_ns=180_000 * MS,
    readings={"load_1m": "1.20"},
)


def write_run(
    directory: Path,
    arms: Sequence[Synthetic] = DEFAULT_ARMS,
    *,
    blocks: int = 12,
    seed: int = 7,
    disk: bool = True,
    extra: Sequence[Trial] = (),
    end: RunEnd | None = END,
) -> Path:
    """Write a run into ``directory`` as the harness would, and return the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with records.Recorder(str(directory / records.RESULTS)) as recorder:
        recorder.append(run(arms, blocks=blocks, seed=seed))
        for trial in (*trials(arms, blocks=blocks, seed=seed, disk=disk), *extra):
            recorder.append(trial)
        if end is not None:
            recorder.append(end)
    return directory
