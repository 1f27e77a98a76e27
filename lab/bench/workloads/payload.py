"""Runs a payload inside a ready target, and turns its failure into an error that says what it wrote."""

from __future__ import annotations

from lab.bench.workloads.protocol import Clock
from lab.errors import WorkloadFailed
from lab.target.protocol import Target
from lab.target.spec import Command, Execution

_TAIL_BYTES = 400


def execute(target: Target, command: Command, clock: Clock) -> tuple[Execution, int]:
    """Run ``command`` and return what it left behind, and its wall time as the host saw it [ns].

    Raises:
        WorkloadFailed: it ended with a code other than 0.
    """
    begun = clock()
    execution = target.exec(command)
    elapsed = clock() - begun
    if execution.exit_code != 0:
        raise WorkloadFailed(_failure(command, execution), payload_exit_code=execution.exit_code)
    return execution, elapsed


def _failure(command: Command, execution: Execution) -> str:
    said = (execution.stderr or execution.stdout)[-_TAIL_BYTES:].decode(errors="replace").strip()
    if execution.exit_code == 127 and not said:
        said = "no such program in the image"
    return f"{command.argv[0]} ended with code {execution.exit_code}" + (f": {said}" if said else "")
