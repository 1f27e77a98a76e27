"""fio inside a target: the same job in every arm, on the layer, a volume or a bind mount.

IO is direct on both sides unless a suite says otherwise: a figure above bare metal is then not the host's page cache.
Source: fio(1), "JSON OUTPUT".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from lab.bench.document import decode_json
from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.probes import io_path
from lab.bench.workloads.payload import execute
from lab.bench.workloads.protocol import READY_COMMAND, Context, Needs, Parameter, Parameters, number, text
from lab.errors import WorkloadFailed
from lab.target.spec import Command
from lab.units import NS_PER_S, parse_bytes

_FIO = "/usr/bin/fio"
_DIRECTORIES = {"layer": "/var/tmp", "data": "/data", "bind": "/bind"}
_PERCENTILES = ("50", "90", "99")
_ENOUGH_FOR_P99 = 300


class Disk:
    """Runs one fio job per pattern and queue depth, one after the other, in one target."""

    name = "disk"
    title = "block IO"
    parameters = (
        Parameter(
            name="place",
            default="data",
            doc="the writable layer or root disk, a volume or raw virtio disk, or a host directory",
            choices=tuple(_DIRECTORIES),
        ),
        Parameter(name="patterns", default="randread", doc="fio's names, with commas: read,write,randread,randwrite"),
        Parameter(name="io_depths", default="1", doc="queue depths, with commas"),
        Parameter(name="block_size", default="4k", doc="bytes per operation"),
        Parameter(name="size", default="64MiB", doc="size of the file"),
        Parameter(name="runtime_ms", default=1000, doc="how long each job runs"),
        Parameter(name="direct", default=True, doc="go past the page cache of the kernel that the payload sees"),
        Parameter(name="engine", default="libaio", doc="fio's IO engine", choices=("libaio", "psync")),
    )
    metrics = (
        Metric(name="io_rate", unit=Unit.BYTES_PER_SECOND, better=Better.HIGHER, title="IO throughput"),
        Metric(name="io_operations", unit=Unit.OPERATIONS_PER_SECOND, better=Better.HIGHER, title="IO operations"),
        Metric(name="io_latency", unit=Unit.NANOSECONDS, better=Better.LOWER, title="IO latency"),
        *io_path.METRICS,
    )

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the median latency of the first pattern at the first depth."""
        pattern, depth = next(_jobs(parameters))
        return "io_latency", {"pattern": pattern, "io_depth": depth, "percentile": "50"}

    def needs(self, parameters: Parameters, port: int) -> Needs:  # noqa: ARG002 - the protocol's
        """Return the ready payload, and a data file system or host directory where the file shall lie there."""
        place = text(parameters, "place")
        room = parse_bytes(text(parameters, "size")) * 2 + (64 << 20)  # the file, and the file system's own needs
        return Needs(
            command=READY_COMMAND,
            scratch_bytes=room if place == "data" else 0,
            bind=place == "bind",
            programs=(_FIO,),
        )

    def run(self, context: Context) -> Iterable[Sample]:
        """Run each job; throughput, operations and latency percentiles of each."""
        # first without a job: what fio reads to load itself and to make its file is not the job's
        pattern, depth = next(_jobs(context.parameters))
        execute(context.target, laying_out(command(context.parameters, pattern, depth)), context.clock)
        if not context.parameters["direct"]:
            execute(context.target, reading(context.parameters), context.clock)
        for pattern, depth in _jobs(context.parameters):
            before = io_path.read(context.target.footprint())
            execution, _ = execute(context.target, command(context.parameters, pattern, depth), context.clock)
            after = io_path.read(context.target.footprint())
            labels = {"place": text(context.parameters, "place"), "pattern": pattern, "io_depth": depth}
            yield from parse(execution.stdout, labels)
            yield from io_path.samples(before, after, read_bytes(execution.stdout), labels)


def command(parameters: Parameters, pattern: str, depth: str) -> Command:
    """Return fio's command line for one job."""
    runtime_ns = number(parameters, "runtime_ms") * 1_000_000
    arguments = {
        "name": "lab",
        "filename": _file(parameters),
        "rw": pattern,
        "iodepth": depth,
        "bs": text(parameters, "block_size"),
        "size": str(parse_bytes(text(parameters, "size"))),
        "runtime": f"{number(parameters, 'runtime_ms')}ms",
        "ioengine": text(parameters, "engine"),
        "direct": "1" if parameters["direct"] else "0",
        # through a page cache means with what is in it: fio would drop the file from it first
        "invalidate": "1" if parameters["direct"] else "0",
        # fio's own choice is the processor's counter where that looks sound: under emulation all latencies were then 0
        "clocksource": "clock_gettime",
        "output-format": "json",
    }
    flags = tuple(f"--{name}={value}" for name, value in arguments.items())
    # randrepeat is fio's default: every arm reads the same offsets in the same order
    argv = (_FIO, *flags, "--time_based", "--percentile_list=50:90:99")
    return Command(argv=argv, cwd="/tmp", timeout_ns=runtime_ns + 120 * NS_PER_S)


def laying_out(job: Command) -> Command:
    """Return the command that makes the file of a job and does not run it."""
    return replace(job, argv=(*job.argv, "--create_only=1"))


def reading(parameters: Parameters) -> Command:
    """Return the command that reads the whole file once, so that it is in the page cache that is to be measured."""
    return Command(argv=("/bin/busybox", "dd", f"if={_file(parameters)}", "of=/dev/null", "bs=1M"))


def _file(parameters: Parameters) -> str:
    return f"{_DIRECTORIES[text(parameters, 'place')]}/lab-fio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """fio's completion latencies [ns], by percentile ("50.000000"); empty where nothing was done."""

    percentile: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Direction:
    """What a fio job did in one direction."""

    total_ios: int
    io_bytes: int
    bw_bytes: float
    iops: float
    clat_ns: Latency


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """The part of a job in fio's JSON that is used here; field names are fio's."""

    read: Direction
    write: Direction
    error: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """fio's JSON document."""

    jobs: tuple[Job, ...]


def parse(output: bytes, labels: Mapping[str, str]) -> Iterator[Sample]:
    """Yield the samples of fio's JSON; p99 only where there were operations enough to have one.

    Raises:
        WorkloadFailed: the output is not fio's, or nothing was done.
    """
    job = _job(output)
    # a job has one direction that did something, unless it mixes them
    for direction in (job.read, job.write):
        if direction.total_ios == 0:
            continue
        yield Sample(metric="io_rate", value=direction.bw_bytes, labels=labels)
        yield Sample(metric="io_operations", value=direction.iops, labels=labels)
        for percentile in _PERCENTILES:
            value = direction.clat_ns.percentile.get(f"{float(percentile):.6f}")
            if value is not None and (percentile != "99" or direction.total_ios >= _ENOUGH_FOR_P99):
                yield Sample(metric="io_latency", value=value, labels={**labels, "percentile": percentile})


def read_bytes(output: bytes) -> int:
    """Return how much a job read, of fio's JSON.

    Raises:
        WorkloadFailed: the output is not fio's, or nothing was done.
    """
    return _job(output).read.io_bytes


def _job(output: bytes) -> Job:
    try:
        # fio writes warnings before the document
        job = decode_json(Output, output[max(output.find(b"{"), 0) :], where="fio").jobs[0]
    except (ValueError, IndexError) as error:
        raise WorkloadFailed(f"fio printed no result but {output[:200]!r} ({error})", payload_exit_code=0) from error
    if job.error:
        raise WorkloadFailed(f"fio met error {job.error}", payload_exit_code=job.error)
    if job.read.total_ios + job.write.total_ios == 0:
        raise WorkloadFailed("fio did not do one operation in its time", payload_exit_code=0)
    return job


def _jobs(parameters: Parameters) -> Iterator[tuple[str, str]]:
    for pattern in text(parameters, "patterns").split(","):
        for depth in text(parameters, "io_depths").split(","):
            yield pattern.strip(), depth.strip()


WORKLOAD = Disk()
