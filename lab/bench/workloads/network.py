"""Host to instance over the network: how long a request takes, how fast connections are made, how much goes through.

Requests are made one after the other by the host, on its own clock; throughput is what iperf3 says the receiver got.
Source: iperf3(1), ``--json``.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from lab.bench.document import decode_json
from lab.bench.model import Better, Metric, Sample, Unit
from lab.bench.workloads.protocol import Clock, Context, Needs, Parameter, Parameters, number
from lab.bench.workloads.service import ANSWER, WEB_SERVER, web_server
from lab.errors import WorkloadFailed
from lab.linux import command
from lab.target.protocol import Reachable
from lab.target.spec import Command, Endpoint, NetworkMode
from lab.units import NS_PER_S

_IPERF3 = "/usr/bin/iperf3"
_TIMEOUT_S = 10.0
_LISTENS_WITHIN_NS = 5 * NS_PER_S
_REFUSED = b"Connection refused"
_KEPT = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n"
_NEW = b"GET / HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
_DIRECTIONS: Mapping[str, tuple[str, ...]] = {"to_instance": (), "from_instance": ("--reverse",)}


class Network:
    """nginx and iperf3 inside, their clients on the host."""

    name = "network"
    title = "requests and throughput between host and instance"
    parameters = (
        Parameter(name="requests", default=200, doc="how many requests on one connection"),
        Parameter(name="connections", default=50, doc="how many requests with a connection each"),
        Parameter(name="throughput_s", default=1, doc="how long iperf3 runs in each direction; 0: not at all"),
    )
    metrics = (
        Metric(name="request_latency", unit=Unit.NANOSECONDS, better=Better.LOWER, title="request to answer"),
        Metric(name="connection_rate", unit=Unit.OPERATIONS_PER_SECOND, better=Better.HIGHER, title="connection rate"),
        Metric(name="network_rate", unit=Unit.BYTES_PER_SECOND, better=Better.HIGHER, title="network throughput"),
    )

    def primary(self, parameters: Parameters) -> tuple[str, Mapping[str, str]]:
        """Return the time of a request on a connection that is open; without requests, what the instance receives."""
        if number(parameters, "requests"):
            return "request_latency", {"connection": "kept"}
        return "network_rate", {"direction": "to_instance"}

    def needs(self, parameters: Parameters, port: int) -> Needs:
        """Return nginx on ``port``, and iperf3 on the next ones if it is wanted."""
        server = web_server(port)
        programs: tuple[str, ...] = (WEB_SERVER,)
        if number(parameters, "throughput_s"):
            *shell, script = server.argv
            # one server for each direction: between two tests a server does not listen for a moment
            ports = range(port + 1, port + 1 + len(_DIRECTIONS))
            iperf3 = "".join(f"{_IPERF3} --server --one-off --daemon --port {port} && " for port in ports)
            server = Command(argv=(*shell, iperf3 + script), env=server.env)
            programs += (_IPERF3,)
        return Needs(command=server, network=NetworkMode.BRIDGE, serves=True, programs=programs)

    def run(self, context: Context) -> Iterable[Sample]:
        """Return every request's time, the rate of connections, and the throughput of each direction.

        Raises:
            WorkloadFailed: an answer is not the server's, or iperf3 could not measure.
        """
        target = context.target
        assert isinstance(target, Reachable)  # the harness has waited for its service
        endpoint = target.endpoint()
        try:
            yield from _on_one_connection(endpoint, number(context.parameters, "requests"), context.clock)
            yield from _on_new_connections(endpoint, number(context.parameters, "connections"), context.clock)
        except OSError as error:
            raise WorkloadFailed(f"a request was not answered: {error}", payload_exit_code=0) from error
        seconds = number(context.parameters, "throughput_s")
        for port, (direction, flags) in enumerate(_DIRECTIONS.items() if seconds else (), start=endpoint.port + 1):
            rate = throughput(Endpoint(host=endpoint.host, port=port), seconds, flags, context.clock)
            yield Sample(metric="network_rate", value=rate, labels={"direction": direction})


def _on_one_connection(endpoint: Endpoint, count: int, clock: Clock) -> Iterator[Sample]:
    with _connected(endpoint) as connection:
        for _ in range(count):
            begun = clock()
            connection.sendall(_KEPT)
            _await_answer(connection)
            yield Sample(metric="request_latency", value=clock() - begun, labels={"connection": "kept"})


def _on_new_connections(endpoint: Endpoint, count: int, clock: Clock) -> Iterator[Sample]:
    spent = 0
    for _ in range(count):
        begun = clock()
        with _connected(endpoint) as connection:
            connection.sendall(_NEW)
            _await_answer(connection)
        elapsed = clock() - begun
        spent += elapsed
        yield Sample(metric="request_latency", value=elapsed, labels={"connection": "new"})
    if spent:
        yield Sample(metric="connection_rate", value=count * NS_PER_S / spent)


@contextlib.contextmanager
def _connected(endpoint: Endpoint) -> Iterator[socket.socket]:
    with socket.create_connection((endpoint.host, endpoint.port), timeout=_TIMEOUT_S) as connection:
        # a request is one small segment: it must not wait for the acknowledgement of the last one
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def _await_answer(connection: socket.socket) -> None:
    received = b""
    while not received.endswith(ANSWER):
        data = connection.recv(4096)
        if not data or len(received) > 4096:
            raise WorkloadFailed(f"the web server answered {received[-80:]!r}", payload_exit_code=0)
        received += data


def throughput(endpoint: Endpoint, seconds: int, flags: tuple[str, ...], clock: Clock) -> float:
    """Return the bytes per second that iperf3's receiver got; a server that does not listen yet is waited for.

    Raises:
        WorkloadFailed: the host has no iperf3, or it could not measure.
    """
    argv = ("iperf3", "--client", endpoint.host, "--port", str(endpoint.port), "--time", str(seconds), "--json", *flags)
    deadline_ns = clock() + _LISTENS_WITHIN_NS
    while True:
        # a daemon that has been started may listen a moment later; an attempt takes longer than a pause should
        output = _run_client(argv, seconds)
        if _REFUSED not in output or clock() > deadline_ns:
            return parse(output)


def _run_client(argv: tuple[str, ...], seconds: int) -> bytes:
    try:
        return command.run(argv, timeout_s=seconds + 30).stdout
    except FileNotFoundError as error:
        raise WorkloadFailed(
            "the host has no iperf3",
            payload_exit_code=127,
            hint="apt-get install iperf3, or set throughput_s = 0 in the suite",
        ) from error
    except TimeoutError as error:
        raise WorkloadFailed(str(error), payload_exit_code=0) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What the receiver counted."""

    bits_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The sums of a test."""

    sum_received: Received = field(default_factory=Received)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The part of iperf3's JSON that is used here; field names are iperf3's."""

    end: End
    error: str = ""


def parse(output: bytes) -> float:
    """Return the receiver's bytes per second from iperf3's JSON.

    Raises:
        WorkloadFailed: the output is not iperf3's, or tells of an error.
    """
    try:
        found = decode_json(Output, output, where="iperf3")
    except ValueError as error:
        message = f"iperf3 printed no result but {output[:200]!r} ({error})"
        raise WorkloadFailed(message, payload_exit_code=0) from error
    bits_per_second = found.end.sum_received.bits_per_second
    if found.error or bits_per_second <= 0:
        raise WorkloadFailed(f"iperf3 met an error: {found.error or 'nothing was received'}", payload_exit_code=0)
    return bits_per_second / 8


WORKLOAD = Network()
