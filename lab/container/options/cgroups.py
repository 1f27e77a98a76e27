"""--memory, --cpus, --cpuset-cpus, --pids-limit and their like -> OCI resources, which cgroups enforce; pure.

Source: docs.docker.com/engine/containers/resource_constraints; docs.docker.com/reference/cli/docker/container/update.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lab.container.options.block_io import block_io, weight
from lab.container.options.run import RunOptions
from lab.container.spec.runtime import Cpu, DeviceRule, Memory, Pids, Resources
from lab.errors import SpecError

_CPU_PERIOD_US = 100_000
_MEMORY_MIN_BYTES = 6 << 20  # docker refuses less


@dataclass(frozen=True, slots=True, kw_only=True)
class HostLimits:
    """What this host has to be limited: lists of processors and memory nodes ("0-1"), "" where nobody has looked.

    ``weighs_block_io`` says whether the kernel knows weights of block I/O.
    """

    cpus: str = ""
    mems: str = ""
    weighs_block_io: bool = False


def resources(options: RunOptions, host: HostLimits, rules: tuple[DeviceRule, ...] = ()) -> Resources:
    """Return the limits, checked as docker checks them.

    Raises:
        SpecError: a limit that cannot be.
    """
    share = weight(options.block_io) if host.weighs_block_io else None
    return Resources(
        devices=rules,
        memory=_memory(options),
        cpu=_cpu(options, host),
        pids=Pids(limit=options.pids_limit or None),
        block_io=replace(block_io(options.block_io), weight=share),
    )


def warnings(options: RunOptions, host: HostLimits) -> tuple[str, ...]:
    """Return what to tell the user about limits that this host cannot enforce, and that docker leaves out as well."""
    if host.weighs_block_io or not any(text.startswith("blkio-weight=") for text in options.block_io):
        return ()
    return ("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.",)


def updated(options: RunOptions, changes: Mapping[str, object]) -> RunOptions:
    """Return the options of a container that exists with some fields changed, by docker's rules for that.

    ``block_io`` adds to what there is.

    Raises:
        SpecError: a change conflicts with what has been set.
    """
    cpu = {"cpu_period_us": "CPU Period", "cpu_quota_us": "CPU Quota"}
    for field, name in cpu.items():
        if field in changes and options.cpus:
            raise SpecError(f"Conflicting options: {name} cannot be updated as NanoCPUs has already been set")
        if "cpus" in changes and getattr(options, field):
            raise SpecError(f"Conflicting options: NanoCPUs cannot be updated as {name} has already been set")
    found = replace(options, **changes)  # type: ignore[arg-type]  # the fields are checked where the flags are read
    if "block_io" in changes:  # which can be a weight only
        found = replace(found, block_io=(*options.block_io, *found.block_io))
    if "memory_swap_bytes" in changes or options.memory_bytes is None:
        return found
    swap = options.memory_swap_bytes or 2 * options.memory_bytes
    if found.memory_bytes is not None and 0 < swap < found.memory_bytes:
        raise SpecError(
            "Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time"
        )
    return replace(found, memory_swap_bytes=swap)


def _memory(options: RunOptions) -> Memory:
    memory, swap = options.memory_bytes, options.memory_swap_bytes
    _check_memory(options)
    return Memory(
        limit=memory,
        swap=2 * memory if memory is not None and not swap else swap,  # docker's: as much swap as memory
        reservation=options.memory_reservation_bytes,
        swappiness=options.memory_swappiness,
        disable_oom_killer=options.oom_kill_disable,
    )


def _check_memory(options: RunOptions) -> None:
    memory, swap = options.memory_bytes, options.memory_swap_bytes
    reservation, swappiness = options.memory_reservation_bytes, options.memory_swappiness
    if memory is not None and memory < _MEMORY_MIN_BYTES:
        raise SpecError("Minimum memory limit allowed is 6MB")
    if swap is not None and swap > 0 and memory is None:
        raise SpecError("You should always set the Memory limit when using Memoryswap limit, see usage")
    if swap is not None and memory is not None and 0 < swap < memory:
        raise SpecError("Minimum memoryswap limit should be larger than memory limit, see usage")
    if reservation is not None and reservation < _MEMORY_MIN_BYTES:
        raise SpecError("Minimum memory reservation allowed is 6MB")
    if reservation is not None and memory is not None and memory < reservation:
        raise SpecError("Minimum memory limit can not be less than memory reservation limit, see usage")
    if swappiness is not None and not 0 <= swappiness <= 100:
        raise SpecError(f"invalid value: {swappiness}. Valid memory swappiness range is 0-100")


def _cpu(options: RunOptions, host: HostLimits) -> Cpu:
    if options.cpus is not None and (options.cpu_quota_us or options.cpu_period_us):
        other = "Quota" if options.cpu_quota_us else "Period"
        raise SpecError(f"Conflicting options: Nano CPUs and CPU {other} cannot both be set")
    available = os.cpu_count() or 1
    if options.cpus is not None and not 0.01 <= options.cpus <= available:
        raise SpecError(f"Range of CPUs is from 0.01 to {available}.00, as there are only {available} CPUs available")
    _check_list(options.cpuset_cpus, host.cpus, "cpus", "CPUs")
    _check_list(options.cpuset_mems, host.mems, "mems", "memory nodes")
    period = options.cpu_period_us or _CPU_PERIOD_US
    quota = options.cpu_quota_us if options.cpus is None else round(options.cpus * period)
    return Cpu(
        shares=options.cpu_shares or None,
        quota=quota or None,
        period=period,
        cpus=options.cpuset_cpus,
        mems=options.cpuset_mems,
    )


def _check_list(wanted: str, available: str, name: str, nouns: str) -> None:
    if not wanted:
        return
    try:
        numbers = set(_numbers(wanted))
    except ValueError:
        said = f"Invalid value {wanted} for cpuset {name}: invalid format: {wanted}"
        raise SpecError(said, hint="such as 0-1 or 0,2") from None
    if available and not numbers <= set(_numbers(available)):
        raise SpecError(f"Requested {nouns} are not available - requested {wanted}, available: {available}")


def _numbers(text: str) -> Iterator[int]:
    """Give the numbers of a list such as "0-2,4".

    Raises:
        ValueError: it is none.
    """
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not all(number.isdecimal() for number in ((first, last) if dash else (first,))):
            raise ValueError(text)
        yield from range(int(first), int(last or first) + 1)
