"""What each further instance costs: instances are added one by one and taken away again, memory is read at each step.

The slope over the number of instances is the cost of one more, the intercept what the first one brings along for all.
The total divided by the number would mix the two.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.stats import density
from lab.bench.stats.bootstrap import Interval
from lab.bench.workloads.memory import STATES, main_program
from lab.bench.workloads.protocol import Context, Needs, Parameter, Parameters, number, text
from lab.bench.workloads.settling import settled
from lab.errors import WorkloadFailed
from lab.target.protocol import Target
from lab.units import NS_PER_MS, parse_bytes

VIEWS = {"host_available": "host_available_drop", "pss": "pss", "cgroup": "cgroup"}
"""The views of which there is a slope, and what they are called where one instance is read."""

_UP, _DOWN = "up", "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Memory of ``instances`` together, by view; ``direction`` says whether one had just come or gone."""

    instances: int
    direction: str
    views: Mapping[str, int]


class Density:
    """Steps up to a number of instances and down again, unless the host's memory gets short before."""

    name = "density"
    title = "memory of each further instance"
    parameters = (
        Parameter(name="state", default="idle", doc="what runs inside", choices=STATES),
        Parameter(name="instances", default=4, doc="how many there are at most"),
        Parameter(name="reserve", default="512MiB", doc="stop adding while this much MemAvailable is left"),
        Parameter(name="settle_ms", default=500, doc="how long at most to wait at a step until it stands still"),
    )
    metrics = (
        Metric(name="density_reading", unit=Unit.BYTES, better=Better.LOWER, title="memory of all instances"),
        Metric(name="density_slope", unit=Unit.BYTES, better=Better.LOWER, title="memory of one more instance"),
        Metric(name="density_slope_low", unit=Unit.BYTES, better=Better.NEITHER, title="lower end of the slope"),
        Metric(name="density_slope_high", unit=Unit.BYTES, better=Better.NEITHER, title="upper end of the slope"),
        Metric(name="density_intercept", unit=Unit.BYTES, better=Better.NEITHER, title="fixed cost of the first one"),
        Metric(name="density_intercept_low", unit=Unit.BYTES, better=Better.NEITHER, title="lower end of fixed cost"),
        Metric(name="density_intercept_high", unit=Unit.BYTES, better=Better.NEITHER, title="upper end of fixed cost"),
        Metric(name="density_instances", unit=Unit.COUNT, better=Better.NEITHER, title="instances that were reached"),
    )

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the slope of PSS: that of MemAvailable misses nothing, but moves with all else on the host."""
        return "density_slope", {"view": "pss", "state": text(parameters, "state")}

    def needs(self, parameters: Parameters, port: int) -> Needs:
        """Return the ready payload, or nginx on ``port``."""
        return main_program(text(parameters, "state"), port)

    def run(self, context: Context) -> Iterable[Sample]:
        """Return the reading of every step, and the line through them for each view.

        Raises:
            WorkloadFailed: there was too little memory for as many steps as a line needs.
        """
        state = text(context.parameters, "state")
        steps: list[Step] = []
        with closing(_steps(context, (context.target,))) as walk:  # whatever happens, those that were added go
            for step in walk:
                steps.append(step)
                yield from _readings(step, state)
        most = max(step.instances for step in steps)
        reached = most == number(context.parameters, "instances")
        labels = {"state": state, "stopped_by": "instances" if reached else "reserve"}
        yield Sample(metric="density_instances", value=most, labels=labels)
        if most < density.FEWEST_INSTANCES:
            stopped = "as the suite asks for" if reached else "since the host's memory reserve was reached"
            raise WorkloadFailed(
                f"there were {most} instances, {stopped}; a slope needs {density.FEWEST_INSTANCES}",
                payload_exit_code=0,
                hint="raise 'instances'" if reached else "free memory, or lower 'reserve' in the suite",
            )
        for view in VIEWS:
            yield from _line(steps, view, state)


def _steps(context: Context, targets: Sequence[Target]) -> Generator[Step, None, None]:
    """Yield what there is with these targets, with each that can be added, and again when it is gone."""
    yield _read(context, targets, _UP)
    if len(targets) < number(context.parameters, "instances") and _has_room(context):
        with context.another() as one_more:
            yield from _steps(context, (*targets, one_more))
        yield _read(context, targets, _DOWN)


def _has_room(context: Context) -> bool:
    return context.available_bytes() > parse_bytes(text(context.parameters, "reserve"))


def _read(context: Context, targets: Sequence[Target], direction: str) -> Step:
    deadline_ns = context.clock() + number(context.parameters, "settle_ms") * NS_PER_MS
    views = settled(
        context.views(targets), lambda found: found.get("pss", 0), clock=context.clock, deadline_ns=deadline_ns
    )
    return Step(instances=len(targets), direction=direction, views=views)


def _readings(step: Step, state: str) -> Iterator[Sample]:
    labels = {"state": state, "instances": str(step.instances), "direction": step.direction}
    for view, source in VIEWS.items():
        if source in step.views:
            yield Sample(metric="density_reading", value=step.views[source], labels={**labels, "view": view})


def _line(steps: Sequence[Step], view: str, state: str) -> Iterator[Sample]:
    points = [(step.instances, step.views[VIEWS[view]]) for step in steps if VIEWS[view] in step.views]
    if not points:
        return  # a host without that controller
    fitted = density.fit([count for count, _ in points], [reading for _, reading in points])
    labels = {"view": view, "state": state}
    yield from _interval("density_slope", fitted.slope, labels)
    yield from _interval("density_intercept", fitted.intercept, labels)


def _interval(metric: str, interval: Interval, labels: Mapping[str, str]) -> Iterator[Sample]:
    yield Sample(metric=metric, value=interval.estimate, labels=labels)
    yield Sample(metric=f"{metric}_low", value=interval.low, labels=labels)
    yield Sample(metric=f"{metric}_high", value=interval.high, labels=labels)


WORKLOAD = Density()
