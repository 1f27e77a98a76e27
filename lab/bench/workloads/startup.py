"""From nothing running to the payload's first byte, and away again; the phases are the target's marks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.bench.model import Sample
from lab.bench.workloads.protocol import READY_COMMAND, Context, Needs, Parameter, Parameters


class Startup:
    """Starts the ready payload; the harness times it, as it does for every workload."""

    name = "startup"
    title = "start-up of the smallest payload"
    parameters = (Parameter(name="memory", default=True, doc="read the memory views once the payload is ready"),)
    metrics = ()

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:  # noqa: ARG002 - the protocol's
        """Return the wall time from request to ready."""
        return "startup_wall", {}

    def needs(self, parameters: Parameters, port: int) -> Needs:  # noqa: ARG002 - the protocol's
        """Return the ready payload and nothing else."""
        return Needs(command=READY_COMMAND)

    def run(self, context: Context) -> Iterable[Sample]:
        """Read the memory of the idle target, if asked; everything else is the harness's own."""
        return context.memory("idle") if context.parameters["memory"] else ()


WORKLOAD = Startup()
