"""What the harness itself adds: the same trial loop around a target that does nothing at all.

The figure is reported beside the results and never subtracted from them.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from lab.bench.model import Cell, TrialKind, WorkloadUse
from lab.bench.trial import Measurement, Place
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import Clock
from lab.target.protocol import Target
from lab.target.spec import Availability, Command, Execution, Footprint, MarkName, MarkSink, TargetSpec

_TRIALS = 20


class _Nothing:
    """A target that is ready at once."""

    def __init__(self, spec: TargetSpec, marks: MarkSink) -> None:
        self.spec = spec
        self._marks = marks

    def start(self) -> None:
        self._marks(MarkName.READY, None)

    def exec(self, command: Command) -> Execution:
        del command
        return Execution(exit_code=0, stdout=b"", stderr=b"")

    def footprint(self) -> Footprint:
        return Footprint(cgroups=(), pids=())

    def stop(self) -> None:
        self._marks(MarkName.GONE, None)

    def destroy(self) -> None:
        return


class _Nowhere:
    """The backend of such targets."""

    name = "nothing"

    def check(self) -> Availability:
        return Availability(available=True)

    def provision(self, spec: TargetSpec, marks: MarkSink) -> _Nothing:
        return _Nothing(spec, marks)


def measure(clock: Clock) -> dict[str, str]:
    """Return readings: what of start-up, command and stop times is the harness's own, as medians of 20 trials [ns]."""
    found: dict[str, list[float]] = {}
    for number in range(_TRIALS):
        for sample in _trial(number, clock):
            found.setdefault(sample[0], []).append(sample[1])
    wanted = ("startup_wall", "exec_wall", "stop_wall")
    return {f"harness_{name}_ns": f"{statistics.median(found[name]):.0f}" for name in wanted}


def _ignore(target: Target) -> None:
    del target


def _trial(number: int, clock: Clock) -> Iterator[tuple[str, float]]:
    workload = WORKLOADS["noop"]
    place = Place(
        cell=Cell(workload="noop", arm="nothing"),
        kind=TrialKind.WARMUP,
        block=0,
        position=0,
        number=number,
        run_id="overhead",
        session=0,
        use=WorkloadUse(workload="noop", image="", vcpus=1, memory_bytes=1 << 20, parameters={"repeat": 1}),
        workload=workload,
        backend=_Nowhere(),
        image="",
        directory="",
    )
    trial = Measurement(place, clock, _ignore).run()
    for sample in trial.samples:
        yield sample.metric, sample.value
