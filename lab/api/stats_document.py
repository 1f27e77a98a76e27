"""Two readings of what a container uses -> the document of docker's stats; pure.

Source: docs.docker.com/reference/api/engine, "Get container stats based on resource usage".
"""

from __future__ import annotations

from lab.container.log_file import timestamp
from lab.container.statistics import Reading, Traffic
from lab.linux.cgroup.usage import CpuUsage

_NEVER = "0001-01-01T00:00:00Z"


def document(
    name: str, container_id: str, before: tuple[int, Reading] | None, now: tuple[int, Reading], processors: int
) -> dict[str, object]:
    """Return the document; each reading is with its time of day in nanoseconds."""
    at_ns, reading = now
    disk = [
        {"major": 0, "minor": 0, "op": word, "value": value}
        for word, value in (("Read", reading.read_bytes), ("Write", reading.written_bytes))
    ]
    networks = {name: _network(link) for name, link in reading.links.items()}
    others = (
        "io_serviced_recursive", "io_queue_recursive", "io_service_time_recursive", "io_wait_time_recursive",
        "io_merged_recursive", "io_time_recursive", "sectors_recursive",
    )  # fmt: skip
    return {
        "read": timestamp(at_ns),
        "preread": _NEVER if before is None else timestamp(before[0]),
        "pids_stats": _tasks(reading),
        "blkio_stats": {"io_service_bytes_recursive": disk, **{other: [] for other in others}},
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": _cpu(reading, processors),
        "precpu_stats": _cpu(Reading() if before is None else before[1], processors if before is not None else 0),
        "memory_stats": _memory(reading),
        "name": f"/{name}",
        "id": container_id,
        **({"networks": networks} if networks else {}),
    }


def _tasks(reading: Reading) -> dict[str, int]:
    limit = {} if reading.tasks_limit is None else {"limit": reading.tasks_limit}
    return {"current": reading.tasks, **limit} if reading.tasks else {}


def _memory(reading: Reading) -> dict[str, object]:
    """Return what is charged, and what clients subtract from it, by the names of both versions of cgroups."""
    memory = reading.memory
    if memory is None:
        return {}
    kinds = {"cache": memory.file_bytes, "rss": memory.anon_bytes, "inactive_file": memory.inactive_file_bytes}
    return {
        "usage": memory.usage_bytes,
        **({} if memory.peak_bytes is None else {"max_usage": memory.peak_bytes}),
        "stats": {**kinds, **{f"total_{name}": value for name, value in kinds.items()}},
        "limit": reading.memory_limit_bytes,
    }


def _cpu(reading: Reading, processors: int) -> dict[str, object]:
    cpu = reading.cpu or CpuUsage(usage_ns=0, periods=0, throttled_periods=0, throttled_ns=0)
    return {
        "cpu_usage": {
            "total_usage": reading.cpu_ns,
            "usage_in_kernelmode": cpu.system_ns,
            "usage_in_usermode": cpu.user_ns,
        },
        **({"system_cpu_usage": reading.host_cpu_ns, "online_cpus": processors} if processors else {}),
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    }


def _network(link: Traffic) -> dict[str, int]:
    return {
        "rx_bytes": link.received_bytes,
        "rx_packets": link.received_packets,
        "rx_errors": link.received_errors,
        "rx_dropped": link.received_dropped,
        "tx_bytes": link.sent_bytes,
        "tx_packets": link.sent_packets,
        "tx_errors": link.sent_errors,
        "tx_dropped": link.sent_dropped,
    }
