"""What one target costs in memory once it has come to rest: idle, or with a service up."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.bench.model import Sample
from lab.bench.workloads.protocol import READY_COMMAND, Context, Needs, Parameter, Parameters, number, text
from lab.bench.workloads.service import WEB_SERVER, web_server
from lab.bench.workloads.settling import settled
from lab.target.spec import NetworkMode
from lab.units import NS_PER_MS

STATES = ("idle", "service")


def main_program(state: str, port: int) -> Needs:
    """Return what a target needs to be in a state: the ready payload, or nginx on ``port``."""
    if state == "idle":
        return Needs(command=READY_COMMAND)
    return Needs(command=web_server(port), network=NetworkMode.BRIDGE, serves=True, programs=(WEB_SERVER,))


class Memory:
    """Reads the six views until the sum of PSS stands still, and reports the last reading."""

    name = "memory"
    title = "memory of one target at rest"
    parameters = (
        Parameter(name="state", default="idle", doc="what runs inside", choices=STATES),
        Parameter(name="settle_ms", default=1000, doc="how long at most to wait until the reading stands still"),
    )
    metrics = ()

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the sum of PSS in this state."""
        return "memory", {"view": "pss", "state": text(parameters, "state")}

    def needs(self, parameters: Parameters, port: int) -> Needs:
        """Return the ready payload, or nginx on ``port``."""
        return main_program(text(parameters, "state"), port)

    def run(self, context: Context) -> Iterable[Sample]:
        """Return the reading after which PSS moved by less than half a percent, or the last within the time."""
        state = text(context.parameters, "state")
        deadline_ns = context.clock() + number(context.parameters, "settle_ms") * NS_PER_MS
        return settled(lambda: context.memory(state), _pss, clock=context.clock, deadline_ns=deadline_ns)


def _pss(samples: tuple[Sample, ...]) -> float:
    return next((sample.value for sample in samples if sample.labels.get("view") == "pss"), 0.0)


WORKLOAD = Memory()
