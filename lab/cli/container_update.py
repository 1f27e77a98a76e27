"""`lab update`: change limits and restart policies of containers while they live."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.cli.container_life import add_names
from lab.cli.flag_values import size, size_or_unlimited
from lab.cli.run_flags import restart_policy
from lab.container.containers import Containers
from lab.errors import SpecError
from lab.paths import Paths

_FIELDS = {
    "cpu_period": "cpu_period_us",
    "cpu_quota": "cpu_quota_us",
    "cpu_shares": "cpu_shares",
    "cpus": "cpus",
    "cpuset_cpus": "cpuset_cpus",
    "cpuset_mems": "cpuset_mems",
    "memory": "memory_bytes",
    "memory_reservation": "memory_reservation_bytes",
    "memory_swap": "memory_swap_bytes",
    "pids_limit": "pids_limit",
}


def add_update(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `update`."""
    add = parser.add_argument
    add("--restart", metavar="POLICY", help="no, always, unless-stopped, on-failure[:TIMES]")
    add("-m", "--memory", metavar="BYTES", type=size, help="such as 512m")
    add("--memory-swap", metavar="BYTES", type=size_or_unlimited, help="memory and swap together; -1 for any amount")
    add("--memory-reservation", metavar="BYTES", type=size, help="what it is asked to stay below under pressure")
    add("--cpus", metavar="N", type=float, help="processors' worth of time, such as 1.5")
    add("-c", "--cpu-shares", metavar="N", type=int, help="weight beside other containers")
    add("--cpu-period", metavar="US", type=int, help="length of a period in microseconds")
    add("--cpu-quota", metavar="US", type=int, help="CPU time in each period, in microseconds")
    add("--cpuset-cpus", metavar="LIST", help="processors it may use, such as 0-1")
    add("--cpuset-mems", metavar="LIST", help="memory nodes it may use")
    add("--pids-limit", metavar="N", type=int, help="most tasks; -1 for any number")
    add("--blkio-weight", metavar="N", type=int, help="weight of its block I/O beside others', 10 to 1000")
    add_names(parser)


def update(arguments: argparse.Namespace, paths: Paths) -> int:
    """Give containers other limits, another restart policy, or both."""
    changes = _changes(arguments)
    if not changes and arguments.restart is None:
        raise SpecError("You must provide one or more flags when using this command.", hint="lab update --help")
    policy = None if arguments.restart is None else restart_policy(arguments.restart)
    with Containers(paths) as containers:

        def change(reference: str) -> None:
            if changes:
                _update_limits(containers, reference, changes)
            if policy is not None:
                containers.set_restart(reference, *policy)

        return output.each(arguments.containers, change)


def _update_limits(containers: Containers, reference: str, changes: dict[str, object]) -> None:
    from lab.container.updating import update_limits  # a new policy alone does not need it

    for warning in update_limits(containers, reference, changes):
        output.note(f"WARNING: {warning}")


def _changes(arguments: argparse.Namespace) -> dict[str, object]:
    """Return the fields of ``RunOptions`` that are asked for."""
    found: dict[str, object] = {
        field: getattr(arguments, flag) for flag, field in _FIELDS.items() if getattr(arguments, flag)
    }
    if arguments.blkio_weight:
        found["block_io"] = (f"blkio-weight={arguments.blkio_weight}",)
    return found
