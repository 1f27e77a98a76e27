"""Writes an invented but well-formed results.jsonl, for trying readers without root and without measuring.

    python tests/unit/bench/sample_run.py DIRECTORY [BLOCKS [SEED]]

The numbers are drawn from log-normal distributions around what one 2-core machine gave; they prove nothing.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

from lab.bench.model import (
    Arm,
    Better,
    Cell,
    Metric,
    Noise,
    Primary,
    Run,
    RunEnd,
    Sample,
    Suite,
    Trial,
    TrialKind,
    TrialStatus,
    Unit,
    WorkloadUse,
)
from lab.bench.records import RESULTS, SCHEMA, Recorder

MS = 1_000_000
MIB = 1 << 20

ARMS = {
    # name: (start-up ms, memory MiB, cpu factor, io factor, facts)
    "process": (2.0, 0.3, 1.0, 1.0, {"isolation": "process", "accelerator": "none"}),
    "container": (6.0, 0.4, 1.0, 1.02, {"isolation": "namespaces", "accelerator": "none"}),
    "runc": (30.0, 0.4, 1.0, 1.02, {"isolation": "namespaces", "accelerator": "none", "version": "1.1.5"}),
    "docker": (300.0, 8.0, 1.0, 1.02, {"isolation": "namespaces", "accelerator": "none", "version": "20.10.24"}),
    "podman": (250.0, 3.0, 1.0, 1.02, {"isolation": "namespaces", "accelerator": "none", "version": "4.3.1"}),
    "vm-tcg": (2000.0, 200.0, 12.0, 6.0, {"isolation": "vm", "accelerator": "tcg", "version": "QEMU 7.2.22"}),
}
METRICS = (
    Metric(name="provision_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time to lay out"),
    Metric(name="startup_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="start-up time"),
    Metric(name="startup_cpu", unit=Unit.NANOSECONDS, better=Better.LOWER, title="CPU time of a start"),
    Metric(name="stop_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time to stop"),
    Metric(name="destroy_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time to remove"),
    Metric(name="memory", unit=Unit.BYTES, better=Better.LOWER, title="memory"),
    Metric(name="cpu_elapsed", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time for fixed CPU work"),
    Metric(name="io_rate", unit=Unit.BYTES_PER_SECOND, better=Better.HIGHER, title="IO throughput"),
    Metric(name="io_operations", unit=Unit.OPERATIONS_PER_SECOND, better=Better.HIGHER, title="IO operations"),
    Metric(name="io_latency", unit=Unit.NANOSECONDS, better=Better.LOWER, title="IO latency"),
)
WORKLOADS = ("startup", "service", "memory", "cpu", "disk")
PRIMARY = (
    Primary(workload="startup", metric="startup_wall"),
    Primary(workload="service", metric="startup_wall"),
    Primary(workload="memory", metric="memory", labels={"view": "pss"}),
    Primary(workload="cpu", metric="cpu_elapsed", labels={"clock": "host"}),
    Primary(workload="disk", metric="io_latency", labels={"io_depth": "1", "percentile": "50"}),
)
VIEWS = {
    # view: share of the arm's memory
    "pss": 1.0,
    "pss_anon": 0.6,
    "pss_file": 0.38,
    "pss_shmem": 0.02,
    "uss": 0.8,
    "rss": 2.5,
    "cgroup": 1.6,
    "cgroup_working_set": 1.3,
    "host_available_drop": 2.0,
}


def write_sample(directory: str, *, blocks: int = 12, seed: int = 1, interrupted: bool = False) -> str:
    """Write a results file into ``directory`` (made if missing) and return its path."""
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, RESULTS)
    with Recorder(path, keep_bytes=0) as recorder:
        recorder.append(sample_run(seed))
        for trial in sample_trials(blocks, seed):
            recorder.append(trial)
        recorder.append(
            RunEnd(
                reason="interrupted" if interrupted else "blocks",
                ended_at="2026-11-24T04:30:00+00:00",
                blocks=blocks,
                harness_cpu_ns=3_000 * MS,
                sampler_cpu_ns=400 * MS,
                elapsed_ns=180_000 * MS,
                readings={"load_1m": "1.10"},
            )
        )
    return path


def sample_run(seed: int = 1) -> Run:
    """Return the run record of the invented run."""
    suite = Suite(
        name="quick",
        title="Quick comparison",
        question="What does each way of isolating cost, at a glance?",
        digest="sha256:" + "0" * 64,
        arms=(*ARMS, "vm-kvm"),
        baseline="process",
        workloads=tuple(
            WorkloadUse(workload=name, image="debian-workloads", vcpus=1, memory_bytes=256 * MIB) for name in WORKLOADS
        ),
        warmup_blocks=1,
        min_blocks=5,
        max_blocks=30,
        budget_ns=210_000 * MS,
        target_half_width_ratio=0.05,
    )
    return Run(
        id="20261124-042700-quick",
        schema=SCHEMA,
        started_at="2026-11-24T04:27:00+00:00",
        lab_version="0.1.0",
        commit="0123456789abcdef",
        seed=seed,
        order="sha256:" + "1" * 64,
        suite=suite,
        arms=(*(sample_arm(name) for name in ARMS), unavailable_arm()),
        images={"debian-workloads": "sha256:" + "2" * 64},
        metrics=METRICS,
        dimensions={"cpu_model": "Example CPU", "kernel": "6.1.0", "cgroup_layout": "hybrid", "virtualised_by": "kvm"},
        primary=PRIMARY,
        readings={"load_1m": "0.40", "memory_available_bytes": str(20 << 30), "harness_overhead_ns": "42000"},
    )


def sample_arm(name: str) -> Arm:
    """Return an available arm."""
    guest = name.startswith("vm-")
    fairness = {
        "same image": "yes",
        "same binary": "yes",
        "same limits": "yes",
        "same kernel": "no: the guest runs Linux 6.1.0-cloud" if guest else "yes",
        "same file system": "no: ext4 on virtio-blk" if guest else "yes",
        "same cache state": "yes",
        "hardware acceleration": "no: TCG, software emulation" if guest else "yes",
    }
    return Arm(name=name, available=True, facts=ARMS[name][4], fairness=fairness)


def unavailable_arm() -> Arm:
    """Return an arm that the host cannot do."""
    return Arm(
        name="vm-kvm",
        available=False,
        reason="/dev/kvm opens but a stock Linux guest does not boot on it",
        facts={"isolation": "vm", "accelerator": "kvm", "kvm_flavour": "pvm"},
    )


def sample_trials(blocks: int, seed: int) -> Iterator[Trial]:
    """Yield one warm-up block and ``blocks`` measured ones; one trial of the last block has failed."""
    rng = random.Random(seed)
    now = 10_000_000_000
    for block in range(blocks + 1):
        cells = [Cell(workload=workload, arm=arm) for workload in WORKLOADS for arm in ARMS]
        cells += [Cell(workload=workload, arm="process", twin=True) for workload in WORKLOADS]
        rng.shuffle(cells)
        for position, cell in enumerate(cells):
            failed = block == blocks and cell.key == "service/podman"
            yield _trial(rng, cell, block=block, position=position, now=now, failed=failed)
            now += 3_000 * MS


def _trial(rng: random.Random, cell: Cell, *, block: int, position: int, now: int, failed: bool) -> Trial:
    kind = TrialKind.WARMUP if block == 0 else TrialKind.MEASURED
    steal = int(rng.expovariate(1 / (5 * MS)))
    marks = _marks(rng, cell, now)
    return Trial(
        cell=cell,
        kind=kind,
        block=block,
        position=position,
        status=TrialStatus.FAILED if failed else TrialStatus.OK,
        started_at="2026-11-24T04:27:00+00:00",
        marks_ns={"requested": now} if failed else marks,
        samples=() if failed else tuple(_samples(rng, cell, marks)),
        noise=Noise(steal_ns=steal, run_queue=1.0 + rng.random(), flags=("steal",) if steal > 15 * MS else ()),
        error="podman: ready: no HTTP answer within 60 s" if failed else "",
    )


def _marks(rng: random.Random, cell: Cell, now: int) -> dict[str, int]:
    start = ARMS[cell.arm][0] * MS * rng.lognormvariate(0, 0.1) * (3 if cell.workload == "service" else 1)
    shares = {"requested": 0.0, "spawned": 0.2}
    if cell.arm.startswith("vm-"):
        shares |= {"environment": 0.25, "kernel": 0.3, "userspace": 0.9}
    elif cell.arm != "process":
        shares |= {"namespaces": 0.3, "environment": 0.7, "userspace": 0.8}
    else:
        shares |= {"userspace": 0.5}
    marks = {name: now + int(share * start) for name, share in shares.items()} | {"ready": now + int(start)}
    stop = now + int(start) + 500 * MS
    return marks | {"stop_requested": stop, "gone": stop + int(start / 10)}


def _samples(rng: random.Random, cell: Cell, marks: dict[str, int]) -> Iterator[Sample]:
    _, memory_mib, cpu_factor, io_factor, _ = ARMS[cell.arm]
    start = marks["ready"] - marks["requested"]
    yield Sample(metric="provision_wall", value=start / 3)
    yield Sample(metric="startup_wall", value=start)
    yield Sample(metric="startup_cpu", value=start * 0.8, labels={"view": "host"})
    yield Sample(metric="stop_wall", value=marks["gone"] - marks["stop_requested"])
    yield Sample(metric="destroy_wall", value=start / 4)
    state = {"startup": "idle", "memory": "idle", "service": "service"}.get(cell.workload)
    if state is not None:
        for view, share in VIEWS.items():
            value = memory_mib * MIB * share * rng.lognormvariate(0, 0.02)
            yield Sample(metric="memory", value=value, labels={"view": view, "state": state})
    if cell.workload == "cpu":
        for clock in ("host", "target"):
            value = 300 * MS * cpu_factor * rng.lognormvariate(0, 0.05)
            yield Sample(metric="cpu_elapsed", value=value, labels={"clock": clock})
    if cell.workload == "disk":
        yield from _disk_samples(rng, io_factor)


def _disk_samples(rng: random.Random, factor: float) -> Iterator[Sample]:
    for depth in (1, 4, 16):
        labels = {"place": "data", "pattern": "randread", "io_depth": str(depth)}
        latency = 80_000 * factor * depth**0.5 * rng.lognormvariate(0, 0.1)
        yield Sample(metric="io_operations", value=1e9 * depth / latency, labels=labels)
        yield Sample(metric="io_rate", value=4096e9 * depth / latency, labels=labels)
        for percentile, ratio in (("50", 1.0), ("90", 1.6), ("99", 4.0)):
            yield Sample(metric="io_latency", value=latency * ratio, labels=labels | {"percentile": percentile})


if __name__ == "__main__":
    arguments = sys.argv[1:]
    write_sample(
        arguments[0],
        blocks=int(arguments[1]) if len(arguments) > 1 else 12,
        seed=int(arguments[2]) if len(arguments) > 2 else 1,
    )
