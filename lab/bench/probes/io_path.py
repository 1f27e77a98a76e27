"""Whose page cache served a read: that of the guest, that of the host, or none, so that the device did.

Read at two places on the way: what the VMM and its file servers passed on to a guest, and what came from the host's
devices. What has not passed a place was served before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import psutil

from lab.bench.model import Better, Metric, Sample, Unit
from lab.target.spec import Footprint

METRICS = (
    Metric(
        name="io_left_guest",
        unit=Unit.RATIO,
        better=Better.NEITHER,
        title="share of what was read that the guest asked the host for",
    ),
    Metric(
        name="io_from_device",
        unit=Unit.RATIO,
        better=Better.NEITHER,
        title="share of what was read that came from the host's devices",
    ),
)
_MOST = 0.5  # of the bytes: who served more than that did the work


class Server(StrEnum):
    """Who served what was read."""

    GUEST_CACHE = "the guest's page cache"
    HOST_CACHE = "the host's page cache"
    DEVICE = "the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Bytes read so far: from the host's devices, and by each of a guest's processes on the host.

    Of a process twice: by the calls that it made, and from devices on its behalf. Asynchronous requests are not among
    the first, and what came from a cache not among the second.
    """

    device_bytes: int
    vmm_bytes: Mapping[int, tuple[int, int]]


def read(footprint: Footprint) -> Reading:
    """Return the counters of now; those of the devices are the whole host's."""
    disks = psutil.disk_io_counters(perdisk=True)
    # what is stacked on other devices would be counted twice
    device_bytes = sum(disk.read_bytes for name, disk in disks.items() if not name.startswith(("loop", "dm-", "md")))
    pids = (*footprint.pids, *footprint.helper_pids) if footprint.guest_memory else ()
    return Reading(device_bytes=device_bytes, vmm_bytes={pid: _read_by(pid) for pid in pids})


def _read_by(pid: int) -> tuple[int, int]:
    try:
        counters = psutil.Process(pid).io_counters()
    except psutil.NoSuchProcess:
        return 0, 0
    return int(counters.read_chars), int(counters.read_bytes)


def served_by(before: Reading, after: Reading, read_bytes: int) -> Server:
    """Return who served most of ``read_bytes``, which the payload read between the two readings."""
    left_guest, from_device = _shares(before, after, read_bytes)
    if left_guest is not None and left_guest < _MOST:
        return Server.GUEST_CACHE
    return Server.HOST_CACHE if from_device < _MOST else Server.DEVICE


def samples(before: Reading, after: Reading, read_bytes: int, labels: Mapping[str, str]) -> tuple[Sample, ...]:
    """Return the shares, labelled with who served most; none where nothing was read."""
    if read_bytes == 0:
        return ()
    left_guest, from_device = _shares(before, after, read_bytes)
    told = {**labels, "served_by": str(served_by(before, after, read_bytes))}
    found = [Sample(metric="io_from_device", value=from_device, labels=told)]
    if left_guest is not None:
        found.append(Sample(metric="io_left_guest", value=left_guest, labels=told))
    return tuple(found)


def _shares(before: Reading, after: Reading, read_bytes: int) -> tuple[float | None, float]:
    from_device = (after.device_bytes - before.device_bytes) / read_bytes
    if not before.vmm_bytes:
        return None, from_device
    return sum(_passed(before, after, pid) for pid in before.vmm_bytes) / read_bytes, from_device


def _passed(before: Reading, after: Reading, pid: int) -> int:
    then, now = before.vmm_bytes[pid], after.vmm_bytes.get(pid, (0, 0))
    return max(0, now[0] - then[0], now[1] - then[1])
