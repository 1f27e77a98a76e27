"""Instance to instance over their network: how long a request takes, how much goes through.

The clients run inside the first instance, nginx and iperf3 inside a second one. A request is timed on the first
instance's own clock, as a difference: what a start of a program in it costs is in no sample.
Source: iperf3(1), ``--json``; clock_gettime(2).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.workloads import network
from lab.bench.workloads.payload import execute
from lab.bench.workloads.protocol import Context, Needs, Parameter, Parameters, number
from lab.bench.workloads.service import ANSWER
from lab.errors import WorkloadFailed
from lab.target.protocol import Reachable
from lab.target.spec import Command, Endpoint
from lab.units import NS_PER_S

_PERL = "/usr/bin/perl"  # of every Debian, with its sockets: nothing is added to the image for this
_CLIENT = """
use strict; use warnings; use Socket qw(:all);
my ($host, $port, $count, $answer, $call) = @ARGV;
sub now { my $at = "\\0" x 16; syscall($call, 1, $at) == 0 or die "clock: $!"; my ($s, $ns) = unpack("qq", $at);
    return $s * 1_000_000_000 + $ns }
socket(my $peer, PF_INET, SOCK_STREAM, IPPROTO_TCP) or die "socket: $!";
setsockopt($peer, IPPROTO_TCP, TCP_NODELAY, 1) or die "TCP_NODELAY: $!";
connect($peer, pack_sockaddr_in($port, inet_aton($host))) or die "connect: $!";
my @taken;
for (1 .. $count) {
    my ($begun, $got) = (now(), "");
    syswrite($peer, "GET / HTTP/1.1\\r\\nHost: lab\\r\\n\\r\\n") or die "write: $!";
    until (substr($got, -length $answer) eq $answer) {
        sysread($peer, $got, 4096, length $got) or die "the web server answered '$got'";
    }
    push @taken, now() - $begun;
}
print "[", join(",", @taken), "]";
"""
_CLOCK_GETTIME = {"x86_64": 228, "aarch64": 113}
_IPERF3 = "/usr/bin/iperf3"
_LISTENS_WITHIN_NS = 5 * NS_PER_S
_REFUSED = b"Connection refused"
_DIRECTIONS: Mapping[str, tuple[str, ...]] = {"to_peer": (), "from_peer": ("--reverse",)}


class NetworkPair:
    """Two instances: nginx and iperf3 in one, their clients in the other."""

    name = "network-pair"
    title = "requests and throughput between two instances"
    parameters = (
        Parameter(name="requests", default=500, doc="how many requests on one connection"),
        Parameter(name="throughput_s", default=1, doc="how long iperf3 runs in each direction; 0: not at all"),
    )
    metrics = (
        Metric(name="pair_latency", unit=Unit.NANOSECONDS, better=Better.LOWER, title="request to a peer's answer"),
        Metric(name="pair_rate", unit=Unit.BYTES_PER_SECOND, better=Better.HIGHER, title="throughput between two"),
    )

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the time of a request; without requests, what the peer receives."""
        if number(parameters, "requests"):
            return "pair_latency", {}
        return "pair_rate", {"direction": "to_peer"}

    def needs(self, parameters: Parameters, port: int) -> Needs:
        """Return what the workload ``network`` needs, and the client."""
        found = network.WORKLOAD.needs({"throughput_s": number(parameters, "throughput_s")}, port)
        return replace(found, programs=(*found.programs, _PERL))

    def run(self, context: Context) -> Iterable[Sample]:
        """Return every request's time, and the throughput of each direction.

        Raises:
            WorkloadFailed: a client failed, or the answer was not the server's.
        """
        with context.another() as peer:
            assert isinstance(peer, Reachable)  # the harness has waited for its service
            endpoint = peer.endpoint()
            yield from _requests(context, endpoint, number(context.parameters, "requests"))
            seconds = number(context.parameters, "throughput_s")
            for port, (direction, flags) in enumerate(_DIRECTIONS.items() if seconds else (), start=endpoint.port + 1):
                rate = _throughput(context, Endpoint(host=endpoint.host, port=port), seconds, flags)
                yield Sample(metric="pair_rate", value=rate, labels={"direction": direction})


def client(endpoint: Endpoint, count: int, machine: str) -> Command:
    """Return the command that makes so many requests and writes their times [ns] as a JSON array.

    Raises:
        WorkloadFailed: its clock is not known on this kind of machine.
    """
    if machine not in _CLOCK_GETTIME:
        raise WorkloadFailed(f"the client knows no clock on {machine}", payload_exit_code=0)
    words = (endpoint.host, str(endpoint.port), str(count), ANSWER.decode(), str(_CLOCK_GETTIME[machine]))
    return Command(argv=(_PERL, "-e", _CLIENT, *words))


def _requests(context: Context, endpoint: Endpoint, count: int) -> Iterator[Sample]:
    if not count:
        return
    execution, _ = execute(context.target, client(endpoint, count, os.uname().machine), context.clock)
    yield from (Sample(metric="pair_latency", value=taken) for taken in parse(execution.stdout, count))


def parse(output: bytes, count: int) -> list[int]:
    """Return the times [ns] that the client has written.

    Raises:
        WorkloadFailed: there are not so many.
    """
    try:
        found = json.loads(output)
    except ValueError:
        found = None
    if not isinstance(found, list) or len(found) != count or not all(isinstance(each, int) for each in found):
        raise WorkloadFailed(f"the client printed no {count} times but {output[:200]!r}", payload_exit_code=0)
    return found


def _throughput(context: Context, endpoint: Endpoint, seconds: int, flags: tuple[str, ...]) -> float:
    words = ("--client", endpoint.host, "--port", str(endpoint.port), "--time", str(seconds), "--json", *flags)
    command = Command(argv=(_IPERF3, *words), timeout_ns=(seconds + 30) * NS_PER_S)
    deadline_ns = context.clock() + _LISTENS_WITHIN_NS
    while True:
        # a daemon that has been started may listen a moment later; an attempt takes longer than a pause should
        output = context.target.exec(command).stdout
        if _REFUSED not in output or context.clock() > deadline_ns:
            return network.parse(output)


WORKLOAD = NetworkPair()
