"""Which workloads there are; a new one is one file beside this and one line here."""

from __future__ import annotations

from collections.abc import Mapping

from lab.bench.workloads import blast_radius, cpu, density, disk, memory, network, network_pair, noop, service, startup
from lab.bench.workloads.protocol import Workload

_ALL: tuple[Workload, ...] = (
    noop.WORKLOAD,
    startup.WORKLOAD,
    service.WORKLOAD,
    memory.WORKLOAD,
    density.WORKLOAD,
    cpu.WORKLOAD,
    disk.WORKLOAD,
    network.WORKLOAD,
    network_pair.WORKLOAD,
    blast_radius.WORKLOAD,
)

WORKLOADS: Mapping[str, Workload] = {workload.name: workload for workload in _ALL}
