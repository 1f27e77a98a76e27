"""The smallest command inside a target that is up: what every other command carries along.

What the harness itself adds is measured apart from any arm, before the first trial (``overhead.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.workloads.payload import execute
from lab.bench.workloads.protocol import READY_COMMAND, Context, Needs, Parameter, Parameters, number
from lab.target.spec import Command

_TRUE = Command(argv=("/bin/busybox", "true"))


class Noop:
    """Runs ``true`` inside, several times."""

    name = "noop"
    title = "a command that does nothing"
    parameters = (Parameter(name="repeat", default=3, doc="how often the command is run in one trial"),)
    metrics = (
        Metric(name="exec_wall", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time to run a command inside"),
    )

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:  # noqa: ARG002 - the protocol's
        """Return the wall time of the command."""
        return "exec_wall", {}

    def needs(self, parameters: Parameters, port: int) -> Needs:  # noqa: ARG002 - the protocol's
        """Return the ready payload and nothing else."""
        return Needs(command=READY_COMMAND)

    def run(self, context: Context) -> Iterable[Sample]:
        """Run ``true`` ``repeat`` times; each is a sample."""
        for _ in range(number(context.parameters, "repeat")):
            _, elapsed = execute(context.target, _TRUE, context.clock)
            yield Sample(metric="exec_wall", value=elapsed)


WORKLOAD = Noop()
