"""One trial: open a fresh target, wait until it is ready, let the workload measure, stop it, remove it.

A trial always ends in a record: what went wrong inside is its reason, and the run goes on.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.bench.model import Better, Cell, Metric, Noise, Sample, Trial, TrialKind, TrialStatus, Unit, WorkloadUse
from lab.bench.probes import cpu, footprint, noise
from lab.bench.readiness import Answer, wait_http
from lab.bench.workloads.protocol import Clock, Context, Needs, Workload
from lab.errors import LabError, TargetError, TargetTimeout
from lab.target.protocol import Backend, Reachable, Target, Traceable
from lab.target.session import Shield, open_target
from lab.target.spec import Limits, MarkName, TargetSpec, Volume
from lab.units import format_duration_ns

METRICS = (
    Metric(name="provision_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time to lay an instance out"),
    Metric(name="startup_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="start-up time, request to ready"),
    Metric(
        name="startup_resolution",
        unit=Unit.NANOSECONDS,
        better=Better.NEITHER,
        title="resolution of a service's start-up",
    ),
    Metric(name="stop_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time from stop request to gone"),
    Metric(name="destroy_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time to remove an instance"),
    *cpu.METRICS,
    *footprint.METRICS,
)
"""What the harness measures of every workload by itself."""

_FIRST_PORT = 20_000
_PORTS = 10_000  # below the kernel's range for outgoing connections (32768 and up)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a trial stands in its run: what it measures, on which backend, and what it may be called."""

    cell: Cell
    kind: TrialKind
    block: int
    position: int
    number: int
    run_id: str
    session: int
    use: WorkloadUse
    workload: Workload
    backend: Backend
    image: str
    directory: str

    @property
    def name(self) -> str:
        """The target's name, unique on this host: a digest of the run and its session, and the trial's number.

        A session that was killed may have left a target of the same number with a daemon that keeps names.
        """
        return f"lab-{hashlib.sha256(f'{self.run_id}/{self.session}'.encode()).hexdigest()[:8]}-{self.number}"


@dataclass(slots=True)
class Marks:
    """Takes the marks of a target; stamps those that come without a time."""

    clock: Clock
    stamps: dict[str, int] = field(default_factory=dict)

    def __call__(self, name: MarkName, at_ns: int | None) -> None:
        """Take a mark; the first of each name counts."""
        self.stamps.setdefault(str(name), self.clock() if at_ns is None else at_ns)

    def has(self, name: MarkName) -> bool:
        """Return whether a mark has come."""
        return str(name) in self.stamps

    def between(self, first: MarkName, last: MarkName) -> int | None:
        """Return the nanoseconds between two marks, None when one of them has not come."""
        if not (self.has(first) and self.has(last)):
            return None
        return self.stamps[str(last)] - self.stamps[str(first)]

    def in_order(self) -> dict[str, int]:
        """Return the marks in order of time."""
        return dict(sorted(self.stamps.items(), key=lambda item: item[1]))


class Measurement:
    """A trial that is going on: what has been measured so far is kept, however it ends."""

    def __init__(
        self,
        place: Place,
        clock: Clock,
        keep_provenance: Callable[[Target], None],
        shield: Shield = contextlib.nullcontext,
    ) -> None:
        """Measure nothing yet; ``keep_provenance`` is shown each target that can tell what it was started from."""
        self._shield = shield
        self._place = place
        self._clock = clock
        self._keep_provenance = keep_provenance
        self._marks = Marks(clock)
        self._samples: list[Sample] = []
        self._started_at = utc_now()
        self._others = 0
        self.probe_cpu_ns = 0

    def run(self) -> Trial:
        """Run the trial and return its record; the caller handles only interruption and our own bugs.

        Raises:
            KeyboardInterrupt: the user wants to stop; everything of the target is gone, ``record`` tells the rest.
        """
        before = noise.read(self._clock())
        error = ""
        try:
            with quiet_interpreter():
                self._measure()
        except (LabError, OSError) as failure:
            # one of the four places where errors end: a failed trial is a record
            error = "; ".join((str(failure), *getattr(failure, "__notes__", ())))
        after = noise.read(self._clock())
        status = TrialStatus.FAILED if error else TrialStatus.OK
        return self.record(status, error=error, disturbance=noise.between(before, after))

    def record(self, status: TrialStatus, *, error: str, disturbance: Noise | None = None) -> Trial:
        """Return the record of the trial as far as it came."""
        return Trial(
            cell=self._place.cell,
            kind=self._place.kind,
            block=self._place.block,
            position=self._place.position,
            status=status,
            started_at=self._started_at,
            marks_ns=self._marks.in_order(),
            samples=tuple(self._samples),
            noise=disturbance or Noise(),
            error=error,
        )

    def _measure(self) -> None:
        place = self._place
        port = free_port(place.number)
        needs = place.workload.needs(place.use.parameters, port)
        with self._bind_directory(place.name, needs) as volumes:
            spec = self._spec(place.name, needs, port, volumes)
            available = footprint.available_bytes()
            begun = self._clock()
            with contextlib.ExitStack() as stack:
                target = stack.enter_context(open_target(place.backend, spec, self._marks, shield=self._shield))
                self._sample("provision_wall", self._clock() - begun)
                self._life(target, needs, available)
                begun = self._clock()
            self._sample("destroy_wall", self._clock() - begun)

    def _life(self, target: Target, needs: Needs, available_bytes: int) -> None:
        self._start(target, needs)
        if isinstance(target, Traceable):
            self._keep_provenance(target)
        self._samples.extend(self._place.workload.run(self._context(target, available_bytes)))
        self._marks(MarkName.STOP_REQUESTED, None)
        target.stop()
        self._sample("stop_wall", self._marks.between(MarkName.STOP_REQUESTED, MarkName.GONE))

    def _start(self, target: Target, needs: Needs) -> None:
        before, harness_ns = cpu.read_all(), cpu.harness_ns()
        self._marks(MarkName.REQUESTED, None)
        target.start()
        harness_ns = cpu.harness_ns() - harness_ns  # the harness asking for the service is none of the target's
        answer = self._await_service(target, self._marks) if needs.serves else None
        after = cpu.read_all()  # at once: to ask for the footprint is work for a daemon
        self._sample("startup_wall", self._marks.between(MarkName.REQUESTED, MarkName.READY))
        self._sample("startup_resolution", answer.resolution_ns if answer is not None else None)
        self._samples.extend(cpu.samples(before, after, target.footprint(), harness_ns))

    def _context(self, target: Target, available_bytes: int) -> Context:
        return Context(
            target=target,
            clock=self._clock,
            parameters=self._place.use.parameters,
            memory=lambda state: self._memory(target, state, available_bytes),
            another=self._another,
            views=lambda targets: self._counted(footprint.reader(targets, available_before_bytes=available_bytes)),
            available_bytes=footprint.available_bytes,
        )

    @contextlib.contextmanager
    def _another(self) -> Iterator[Target]:
        """Open one more target like the trial's own, whose marks nobody needs."""
        self._others += 1
        place, marks = self._place, Marks(self._clock)
        name = f"{place.name}-{self._others}"
        port = free_port(place.number)
        needs = place.workload.needs(place.use.parameters, port)
        with self._bind_directory(name, needs) as volumes:
            spec = self._spec(name, needs, port, volumes)
            with open_target(place.backend, spec, marks, shield=self._shield) as target:
                marks(MarkName.REQUESTED, None)
                target.start()
                if needs.serves:
                    self._await_service(target, marks)
                yield target
                target.stop()

    def _counted(self, read: Callable[[], Mapping[str, int]]) -> Callable[[], Mapping[str, int]]:
        """Add the CPU time of each reading to that of the probes."""

        def counted() -> Mapping[str, int]:
            begun = time.process_time_ns()
            found = read()
            self.probe_cpu_ns += time.process_time_ns() - begun
            return found

        return counted

    def _await_service(self, target: Target, marks: Marks) -> Answer:
        if not isinstance(target, Reachable):
            raise TargetError("it has no endpoint for a service", backend=self._place.cell.arm, phase="ready")
        timeout_ns = target.spec.start_timeout_ns
        answer = wait_http(
            target.endpoint(),
            clock=self._clock,
            requested_ns=marks.stamps[str(MarkName.REQUESTED)],
            deadline_ns=self._clock() + timeout_ns,
        )
        if answer is None:
            raise TargetTimeout(
                f"the service did not answer within {format_duration_ns(timeout_ns)}",
                backend=self._place.cell.arm,
                phase="ready",
            )
        marks(MarkName.READY, answer.at_ns)
        return answer

    def _memory(self, target: Target, state: str, available_bytes: int) -> tuple[Sample, ...]:
        begun = time.process_time_ns()
        found = footprint.memory(target, state=state, available_before_bytes=available_bytes)
        self.probe_cpu_ns += time.process_time_ns() - begun
        return found

    def _sample(self, metric: str, value: int | None) -> None:
        if value is not None:
            self._samples.append(Sample(metric=metric, value=value))

    def _spec(self, name: str, needs: Needs, port: int, volumes: tuple[Volume, ...]) -> TargetSpec:
        place = self._place
        return TargetSpec(
            name=name,
            image=place.image,
            command=needs.command,
            limits=Limits(vcpus=place.use.vcpus, memory_bytes=place.use.memory_bytes),
            network=needs.network,
            volumes=volumes,
            cgroup_parent=f"lab/{place.run_id}",
            service_port=port if needs.serves else None,
            scratch_bytes=needs.scratch_bytes,
        )

    @contextlib.contextmanager
    def _bind_directory(self, name: str, needs: Needs) -> Iterator[tuple[Volume, ...]]:
        if not needs.bind:
            yield ()
            return
        directory = os.path.join(self._place.directory, name)
        os.makedirs(directory)
        try:
            yield (Volume(source=directory, path="/bind"),)
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def quiet_interpreter() -> Iterator[None]:
    """Keep the garbage collector out of the block: it runs before, not within."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def free_port(number: int) -> int:
    """Return a TCP port for trial ``number`` that nothing listens on; each trial begins its search elsewhere."""
    for offset in range(_PORTS):
        port = _FIRST_PORT + (number * 7 + offset) % _PORTS
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise LabError("no free TCP port for a service", hint=f"close some of {_FIRST_PORT} to {_FIRST_PORT + _PORTS}")


def utc_now() -> str:
    """Return the wall-clock time as ISO 8601 in UTC; for people, never for differences."""
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
