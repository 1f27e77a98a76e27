"""A fixed piece of computing inside a target, timed by the host's clock and as a difference on the target's own.

The host's time holds what it costs to run a command inside as well; the target's difference does not. Both are kept:
the second is what is compared, the first is what a user waits for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.workloads.payload import execute
from lab.bench.workloads.protocol import READY_COMMAND, Context, Needs, Parameter, Parameters, number, text
from lab.errors import WorkloadFailed
from lab.target.spec import Command

_WORK = {
    "loop": "i=0; while [ $i -lt {amount}000 ]; do i=$((i+1)); done",
    "sha256": "/bin/busybox dd if=/dev/zero bs=64k count={amount} 2>/dev/null | /bin/busybox sha256sum >/dev/null",
    "gzip": "/bin/busybox dd if=/dev/zero bs=64k count={amount} 2>/dev/null | /bin/busybox gzip -c >/dev/null",
}
# coreutils' date, since busybox's knows no %N; both stamps are on one clock and only their difference is used
_SHELL = "a=$(/bin/date +%s%N); {work}; b=$(/bin/date +%s%N); echo $((b - a))"


class Cpu:
    """Runs a fixed amount of work in a shell of the image, which must have coreutils."""

    name = "cpu"
    title = "a fixed amount of computing"
    parameters = (
        Parameter(name="work", default="sha256", doc="what to compute", choices=tuple(_WORK)),
        Parameter(name="amount", default=512, doc="thousand rounds of the loop, or blocks of 64 KiB to digest or pack"),
    )
    metrics = (
        Metric(name="cpu_elapsed", unit=Unit.NANOSECONDS, better=Better.LOWER, title="time for a fixed computation"),
    )

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the time on the target's own clock, which leaves the cost of running a command out."""
        return "cpu_elapsed", {"clock": "target", "work": text(parameters, "work")}

    def needs(self, parameters: Parameters, port: int) -> Needs:  # noqa: ARG002 - the protocol's
        """Return the ready payload; the work runs beside it."""
        return Needs(command=READY_COMMAND)

    def run(self, context: Context) -> Iterable[Sample]:
        """Run the work once; one sample per clock."""
        work = text(context.parameters, "work")
        execution, elapsed = execute(context.target, command(work, number(context.parameters, "amount")), context.clock)
        yield Sample(metric="cpu_elapsed", value=elapsed, labels={"clock": "host", "work": work})
        inside = parse_difference(execution.stdout)
        yield Sample(metric="cpu_elapsed", value=inside, labels={"clock": "target", "work": work})


def command(work: str, amount: int) -> Command:
    """Return the command that does ``amount`` of ``work`` and prints how long it took [ns]."""
    shell = _SHELL.format(work=_WORK[work].format(amount=amount))
    return Command(argv=("/bin/busybox", "sh", "-c", shell), timeout_ns=300_000_000_000)


def parse_difference(output: bytes) -> int:
    """Return the nanoseconds that the payload printed.

    Raises:
        WorkloadFailed: it printed something else, or a clock that was set back.
    """
    try:
        difference = int(output)
    except ValueError as error:
        raise WorkloadFailed(f"the computation printed {output[:80]!r} for its time", payload_exit_code=0) from error
    if difference <= 0:
        raise WorkloadFailed(f"the target's clock went back by {-difference} ns", payload_exit_code=0)
    return difference


WORKLOAD = Cpu()
