"""How many instances a crash of one kernel takes along: those that share it, and what became of the others.

Instances say by their kernel's boot id whether they share one. Where a target has a kernel of its own, that one is made
to panic, and everybody is asked who still answers. No other kernel is ever touched: what shares the host's is counted
by its boot id alone, and would go with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.workloads.memory import STATES, main_program
from lab.bench.workloads.payload import execute
from lab.bench.workloads.protocol import Clock, Context, Needs, Parameter, Parameters, number, text
from lab.errors import TargetError, WorkloadFailed
from lab.target.protocol import Crashable, Target
from lab.target.spec import Command

_BOOT_ID = Command(argv=("/bin/busybox", "cat", "/proc/sys/kernel/random/boot_id"))
_ANSWER = Command(argv=("/bin/busybox", "true"), timeout_ns=20_000_000_000)


class BlastRadius:
    """Opens some instances, crashes the kernel of the last one if it is its own, and counts."""

    name = "blast_radius"
    title = "instances that a crash of one kernel takes along"
    parameters = (
        Parameter(name="state", default="idle", doc="what runs inside", choices=STATES),
        Parameter(name="instances", default=3, doc="how many there are"),
    )
    metrics = (
        Metric(name="blast_sharing", unit=Unit.COUNT, better=Better.LOWER, title="instances on the victim's kernel"),
        Metric(name="blast_lost", unit=Unit.COUNT, better=Better.LOWER, title="instances lost with one kernel"),
        Metric(name="blast_instances", unit=Unit.COUNT, better=Better.NEITHER, title="instances that there were"),
        Metric(name="blast_noticed", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time until a panic is noticed"),
        Metric(
            name="blast_answer", unit=Unit.NANOSECONDS, better=Better.LOWER, title="a survivor's answer after the panic"
        ),
    )

    def primary(self, parameters: Parameters) -> tuple[str, dict[str, str]]:  # noqa: ARG002 - the protocol's
        """Return how many instances are on the victim's kernel, itself included."""
        return "blast_sharing", {}

    def needs(self, parameters: Parameters, port: int) -> Needs:
        """Return the ready payload, or nginx on ``port``."""
        return main_program(text(parameters, "state"), port)

    def run(self, context: Context) -> Iterable[Sample]:
        """Count who shares the victim's kernel; then crash it, if it is its own, and count who answers.

        Raises:
            WorkloadFailed: an instance that shares nothing with the victim does not answer.
        """
        with ExitStack() as stack:
            others = [
                stack.enter_context(context.another()) for _ in range(number(context.parameters, "instances") - 1)
            ]
            targets = (context.target, *others)
            yield Sample(metric="blast_instances", value=len(targets))
            kernels = [_kernel_of(target, context.clock) for target in targets]
            sharing = kernels.count(kernels[-1])
            yield Sample(metric="blast_sharing", value=sharing)
            if isinstance(targets[-1], Crashable):
                yield from _crash(targets, sharing, context.clock)


def _kernel_of(target: Target, clock: Clock) -> bytes:
    return execute(target, _BOOT_ID, clock)[0].stdout.strip()


def _crash(targets: Sequence[Target], sharing: int, clock: Clock) -> Iterator[Sample]:
    *others, victim = targets
    assert isinstance(victim, Crashable)
    begun = clock()
    victim.crash_kernel()
    yield Sample(metric="blast_noticed", value=clock() - begun)
    lost = 1 + sum(not _answers(target) for target in others)
    yield Sample(metric="blast_lost", value=lost)
    if lost > sharing:
        raise WorkloadFailed(
            f"{lost} instances do not answer, though {sharing} shared the kernel that was crashed", payload_exit_code=0
        )
    for target in others:
        asked = clock()
        if _answers(target):
            yield Sample(metric="blast_answer", value=clock() - asked)


def _answers(target: Target) -> bool:
    try:
        return target.exec(_ANSWER).exit_code == 0
    except TargetError:
        return False


WORKLOAD = BlastRadius()
