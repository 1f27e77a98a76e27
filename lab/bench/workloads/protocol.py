"""What a workload is: what it asks of a target, and what it measures on one that is ready.

A workload reads no clock of its own and starts nothing by itself: the harness opens the target, waits until it is
ready, hands the clock down and records what comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from lab.bench.model import Metric, Sample
from lab.target.protocol import Target
from lab.target.spec import Command, NetworkMode

ParameterValue = str | int | float | bool
Parameters = Mapping[str, ParameterValue]
Clock = Callable[[], int]
"""Returns nanoseconds of the host's CLOCK_MONOTONIC."""

READY_SHELL = "trap 'exit 0' TERM; echo ready; /bin/busybox sleep 1000000 & wait $!"
READY_COMMAND = Command(argv=("/bin/busybox", "sh", "-c", READY_SHELL))
"""Says that it is ready, and waits to be told to end: the smallest main program, the same bytes in every arm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A knob of a workload as suite files may turn it; the type of ``default`` is the parameter's type."""

    name: str
    default: ParameterValue
    doc: str
    choices: tuple[ParameterValue, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What a workload asks of each target: its main program and what that depends on.

    ``serves`` says that ``command`` answers HTTP on the port it was given; ``bind`` that a host directory is wanted
    at /bind; ``scratch_bytes`` asks for a data file system at /data. ``programs`` are the binaries in the
    image that are measured: a run records their digests.
    """

    command: Command
    network: NetworkMode = NetworkMode.NONE
    serves: bool = False
    scratch_bytes: int = 0
    bind: bool = False
    programs: tuple[str, ...] = ("/bin/busybox",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a workload gets of the harness: a target that is ready, and instruments.

    ``memory`` reads the six views now and labels them with the state given ("idle", "service"). ``another`` opens one
    more target like the first, ready, and removes it at the block's end. ``views`` returns a reader of the memory of
    several targets together, by view, and ``available_bytes`` reads the host's MemAvailable.
    """

    target: Target
    clock: Clock
    parameters: Parameters
    memory: Callable[[str], tuple[Sample, ...]]
    another: Callable[[], AbstractContextManager[Target]]
    views: Callable[[Sequence[Target]], Callable[[], Mapping[str, int]]]
    available_bytes: Callable[[], int]


class Workload(Protocol):
    """One thing to measure on every arm."""

    @property
    def name(self) -> str:
        """What suite files call it."""
        ...

    @property
    def title(self) -> str:
        """A few words for tables."""
        ...

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The knobs that suites may turn."""
        ...

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What it gives beyond what the harness measures for every workload."""
        ...

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the metric, and labels of its samples, by which the workload is judged first."""
        ...

    def needs(self, parameters: Parameters, port: int) -> Needs:
        """Return what each target must be; ``port`` is free for this trial's service."""
        ...

    def run(self, context: Context) -> Iterable[Sample]:
        """Measure on a target that is ready, and return the samples.

        Raises:
            WorkloadFailed: the payload ran and failed.
        """
        ...


def text(parameters: Parameters, name: str) -> str:
    """Return a parameter that is text."""
    return str(parameters[name])


def number(parameters: Parameters, name: str) -> int:
    """Return a parameter that is a whole number."""
    return int(parameters[name])


def defaults(workload: Workload) -> dict[str, ParameterValue]:
    """Return the parameters of a workload as they are when a suite says nothing."""
    return {parameter.name: parameter.default for parameter in workload.parameters}
