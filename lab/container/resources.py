"""Limits -> lines for cgroup interface files, on v1, v2 and hybrid hosts; pure.

A limit whose controller the host lacks has no line, and ``unenforceable`` names it. A limit of -1 is none, said
aloud, as in the specification; v1 takes it so for memory and processors, all else wants "max".
"""

from __future__ import annotations

from collections.abc import Iterator

from lab.container.device_program import compile_rules
from lab.container.spec.runtime import BlockIo, Cpu, DeviceRule, Memory, Pids, Resources, ThrottleDevice
from lab.errors import UnavailableError
from lab.linux.cgroup.layout import CgroupLayout, CgroupWrite

CPU_PERIOD_US = 100_000
_THROTTLES = (  # in the specification, in v1's file names, and in v2's io.max
    ("throttle_read_bps_device", "read_bps", "rbps"),
    ("throttle_write_bps_device", "write_bps", "wbps"),
    ("throttle_read_iops_device", "read_iops", "riops"),
    ("throttle_write_iops_device", "write_iops", "wiops"),
)


def limits(
    *, vcpus: float | None, memory_bytes: int | None, pids: int | None, devices: tuple[DeviceRule, ...] = ()
) -> Resources:
    """Return OCI resources from what targets speak of: processors' worth of time, bytes, tasks; None for no limit."""
    return Resources(
        devices=devices,
        memory=Memory(limit=memory_bytes),
        cpu=Cpu(quota=None if vcpus is None else round(vcpus * CPU_PERIOD_US), period=CPU_PERIOD_US),
        pids=Pids(limit=pids),
    )


def plan(resources: Resources, layout: CgroupLayout) -> tuple[CgroupWrite, ...]:
    """Return the writes that enforce ``resources``, in the order in which the kernel wants them."""
    return (
        *_plan_cpu(resources.cpu, layout.version("cpu")),
        *_plan_cpuset(resources.cpu, layout.version("cpuset")),
        *_plan_memory(resources.memory, layout.version("memory")),
        *_plan_pids(resources.pids, layout.version("pids")),
        *_plan_block_io(resources.block_io, layout),
        *_plan_devices(resources.devices, layout.version("devices")),
    )


def plan_update(before: Resources, after: Resources, layout: CgroupLayout) -> tuple[CgroupWrite, ...]:
    """Return the writes that make ``after`` of ``before`` in a cgroup that is in use; devices stay as they are."""
    known = frozenset(plan(before, layout))
    writes = [write for write in plan(after, layout) if write not in known and write.controller != "devices"]
    old, new = before.memory.limit, after.memory.limit
    if old is not None and new is not None and new > old:  # v1: the sum first, since it may never be below
        writes.sort(key=lambda write: write.file != "memory.memsw.limit_in_bytes")
    return tuple(writes)


def require(resources: Resources, layout: CgroupLayout) -> None:
    """See that this host can enforce all limits.

    Raises:
        UnavailableError: it cannot.
    """
    missing = unenforceable(resources, layout)
    if missing:
        raise UnavailableError(
            f"no cgroup controller for {', '.join(missing)} on this host ({layout.kind})",
            hint="drop the limit, or boot with that controller enabled",
        )


def controllers(resources: Resources) -> tuple[str, ...]:
    """Return the controllers that ``resources`` make use of."""
    used = {
        "cpu": resources.cpu.quota is not None or resources.cpu.shares is not None,
        "cpuset": bool(resources.cpu.cpus or resources.cpu.mems),
        "memory": resources.memory != Memory(),
        "pids": resources.pids.limit is not None,
        "devices": bool(resources.devices),
    }
    return tuple(name for name, is_used in used.items() if is_used)


def unenforceable(resources: Resources, layout: CgroupLayout) -> tuple[str, ...]:
    """Return the controllers that ``resources`` need and this host lacks; devices on v2 are a BPF program's matter."""
    missing = [name for name in controllers(resources) if layout.version(name) is None]
    if resources.block_io != BlockIo() and not layout.select(("blkio", "io")):
        missing.append("io")
    return tuple(name for name in missing if name != "devices" or layout.hierarchy("") is None)


def device_program(resources: Resources, layout: CgroupLayout) -> bytes:
    """Return the BPF program that enforces the device rules; empty without rules, and where v1 takes them."""
    if not resources.devices or layout.version("devices") == 1 or layout.hierarchy("") is None:
        return b""
    return compile_rules(resources.devices)


def _plan_cpu(cpu: Cpu, version: int | None) -> tuple[CgroupWrite, ...]:
    if version == 1:
        return (
            *_write("cpu", "cpu.shares", cpu.shares),
            *(_write("cpu", "cpu.cfs_period_us", cpu.period) if cpu.quota is not None else ()),
            *_write("cpu", "cpu.cfs_quota_us", cpu.quota),
        )
    if version == 2:
        quota = None if cpu.quota is None else f"{_or_max(cpu.quota)} {cpu.period}"
        weight = None if cpu.shares is None else cpu_weight(cpu.shares)
        return (*_write("cpu", "cpu.weight", weight), *_write("cpu", "cpu.max", quota))
    return ()


def cpu_weight(shares: int) -> int:
    """Return v2's cpu.weight (1..10000) for v1's cpu.shares (2..262144), linearly, as every OCI runtime does.

    Source: opencontainers/runc, crun.1 "cgroup v2".
    """
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142


def _plan_cpuset(cpu: Cpu, version: int | None) -> tuple[CgroupWrite, ...]:
    if version is None:
        return ()
    return (
        *_write("cpuset", "cpuset.cpus", cpu.cpus or None),
        *_write("cpuset", "cpuset.mems", cpu.mems or None),
    )


def _plan_memory(memory: Memory, version: int | None) -> tuple[CgroupWrite, ...]:
    if version == 1:  # memory first: the sum may never be below it
        return (
            *_write("memory", "memory.limit_in_bytes", memory.limit),
            *_write("memory", "memory.memsw.limit_in_bytes", memory.swap),
            *_write("memory", "memory.soft_limit_in_bytes", memory.reservation),
            *_write("memory", "memory.swappiness", memory.swappiness),
            *_write("memory", "memory.oom_control", 1 if memory.disable_oom_killer else None),
        )
    if version == 2:
        return (
            *_write("memory", "memory.max", _or_max(memory.limit)),
            *_write("memory", "memory.swap.max", _or_max(_swap_alone(memory))),
            *_write("memory", "memory.low", memory.reservation),
        )
    return ()


def _swap_alone(memory: Memory) -> int | None:
    """Return what v2 limits of what the specification limits: swap without memory; -1 for any amount."""
    if memory.swap is None or memory.swap < 0:
        return memory.swap
    return None if memory.limit is None else memory.swap - memory.limit


def _plan_pids(pids: Pids, version: int | None) -> tuple[CgroupWrite, ...]:
    return _write("pids", "pids.max", _or_max(pids.limit)) if version else ()


def _or_max(limit: int | None) -> int | str | None:
    return "max" if limit is not None and limit < 0 else limit


def _plan_block_io(block_io: BlockIo, layout: CgroupLayout) -> Iterator[CgroupWrite]:
    if weight := weight_file(layout):
        yield from _write(*weight, block_io.weight)
    for field, kind, key in _THROTTLES:
        devices: tuple[ThrottleDevice, ...] = getattr(block_io, field)
        for device in devices:
            numbers = f"{device.major}:{device.minor}"
            if layout.version("blkio") == 1:
                yield from _write("blkio", f"blkio.throttle.{kind}_device", f"{numbers} {device.rate}")
            elif layout.version("io") == 2:
                yield from _write("io", "io.max", f"{numbers} {key}={device.rate}")


def weight_file(layout: CgroupLayout) -> tuple[str, str] | None:
    """Return the controller and file of a weight beside other cgroups' block I/O; a kernel without bfq lacks the file.

    Source: kernel Documentation/block/bfq-iosched.rst, "weight".
    """
    if layout.version("blkio") == 1:
        return "blkio", "blkio.bfq.weight"
    return ("io", "io.bfq.weight") if layout.version("io") == 2 else None


def _plan_devices(rules: tuple[DeviceRule, ...], version: int | None) -> tuple[CgroupWrite, ...]:
    if version != 1:
        return ()
    return tuple(
        CgroupWrite(controller="devices", file=f"devices.{'allow' if rule.allow else 'deny'}", value=device_line(rule))
        for rule in rules
    )


def device_line(rule: DeviceRule) -> str:
    """Return a rule as cgroup v1 takes it: "c 1:3 rwm", or "a" for everything."""
    if rule.type == "a":
        return "a"
    numbers = ("*" if number is None else str(number) for number in (rule.major, rule.minor))
    return f"{rule.type} {':'.join(numbers)} {rule.access}"


def _write(controller: str, file: str, value: int | str | None) -> tuple[CgroupWrite, ...]:
    return () if value is None else (CgroupWrite(controller=controller, file=file, value=str(value)),)
