"""The network workload against a real web server and the real iperf3 on the loopback, and against what they break."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.bench.model import Sample
from lab.bench.workloads import network
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import Context, defaults
from lab.errors import WorkloadFailed
from lab.target.protocol import Target
from lab.target.spec import Command, Endpoint, Execution, Footprint, TargetSpec

# of iperf3 3.12, without what is not read
GOOD = {"start": {}, "intervals": [], "end": {"sum_received": {"bytes": 3837526016, "bits_per_second": 30598864688.15}}}
REFUSED = {"start": {}, "intervals": [], "end": {}, "error": "unable to connect to server: Connection refused"}


class Served:
    """A target that is up, its service answering on the loopback."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.spec = TargetSpec(name="t", image="", command=Command(argv=("/x",)), service_port=port)

    def endpoint(self) -> Endpoint:
        return Endpoint(host="127.0.0.1", port=self._port)

    def start(self) -> None:
        raise NotImplementedError

    def exec(self, command: Command) -> Execution:
        raise NotImplementedError

    def footprint(self) -> Footprint:
        raise NotImplementedError

    def stop(self) -> None:
        raise NotImplementedError

    def destroy(self) -> None:
        raise NotImplementedError


@contextlib.contextmanager
def serving(body: bytes, *, keep_alive: bool = True) -> Iterator[Served]:
    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1" if keep_alive else "HTTP/1.0"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            del arguments

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Served(server.server_address[1])
        finally:
            server.shutdown()
            thread.join()


def context(target: Target, **parameters: int) -> Context:
    ticks = iter(range(0, 10**12, 1000))

    def unused(*arguments: object) -> NoReturn:
        raise AssertionError(f"this workload does not ask for {arguments}")

    def another() -> AbstractContextManager[Target]:
        unused("another target")

    def views(targets: Sequence[Target]) -> NoReturn:
        unused(targets)

    return Context(
        target=target,
        clock=lambda: next(ticks),
        parameters={**defaults(WORKLOADS["network"]), "throughput_s": 0, **parameters},
        memory=unused,
        another=another,
        views=views,
        available_bytes=unused,
    )


def run(target: Target, **parameters: int) -> list[Sample]:
    return list(WORKLOADS["network"].run(context(target, **parameters)))


def test_every_request_is_a_sample_and_the_rate_is_theirs() -> None:
    with serving(b"ready") as target:
        samples = run(target, requests=5, connections=3)

    kinds = [sample.labels["connection"] for sample in samples if sample.metric == "request_latency"]
    assert kinds == ["kept"] * 5 + ["new"] * 3
    assert {sample.value for sample in samples if sample.metric == "request_latency"} == {1000}
    assert [sample.value for sample in samples if sample.metric == "connection_rate"] == [10**9 / 1000]


def test_an_answer_that_is_not_the_servers_is_a_failure() -> None:
    with serving(b"") as target, pytest.raises(WorkloadFailed, match="the web server answered"):
        # the server closes after its answer, which has no body
        list(WORKLOADS["network"].run(context(target, requests=0, connections=1)))


def test_a_server_that_closes_its_connections_is_a_failure() -> None:
    with serving(b"ready", keep_alive=False) as target, pytest.raises(WorkloadFailed):
        run(target, requests=3)


def test_a_server_that_is_gone_is_a_failure() -> None:
    with serving(b"ready") as target:
        pass

    with pytest.raises(WorkloadFailed, match="a request was not answered"):
        run(target, requests=1)


def test_without_requests_the_workload_is_judged_by_its_throughput() -> None:
    workload = WORKLOADS["network"]

    assert workload.primary(defaults(workload)) == ("request_latency", {"connection": "kept"})
    assert workload.primary({**defaults(workload), "requests": 0})[0] == "network_rate"


def test_iperf3_is_started_for_each_direction_and_only_if_it_is_wanted() -> None:
    workload = WORKLOADS["network"]
    with_iperf3 = workload.needs(defaults(workload), 20_000).command.argv[-1]
    without = workload.needs({**defaults(workload), "throughput_s": 0}, 20_000).command.argv[-1]

    assert "--port 20001 &&" in with_iperf3
    assert "--port 20002 &&" in with_iperf3
    assert with_iperf3.endswith(without)
    assert "iperf3" not in without


def test_throughput_is_what_the_receiver_got_in_bytes() -> None:
    assert network.parse(json.dumps(GOOD).encode()) == 30598864688.15 / 8


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (b"", "printed no result"),
        (b"iperf3: error", "printed no result but b'iperf3: error'"),
        (json.dumps(REFUSED).encode(), "Connection refused"),
        (json.dumps({**GOOD, "end": {}}).encode(), "nothing was received"),
        (json.dumps(GOOD).encode()[:-5], "printed no result"),
        (b'{"end": {"sum_received": {"bits_per_second": NaN}}}', "NaN is no measurement"),
    ],
)
def test_what_is_no_result_of_iperf3_is_a_failure_that_says_so(output: bytes, words: str) -> None:
    with pytest.raises(WorkloadFailed, match=words):
        network.parse(output)


documents = st.dictionaries(st.sampled_from(["end", "error"]), st.integers() | st.text() | st.just({}))


@given(st.binary(max_size=40) | documents.map(lambda document: json.dumps(document).encode()))
def test_whatever_iperf3_prints_is_a_rate_or_a_failure(output: bytes) -> None:
    with contextlib.suppress(WorkloadFailed):
        assert network.parse(output) > 0


def test_a_host_on_which_nobody_listens_is_told_with_iperf3s_words() -> None:
    with serving(b"ready") as target:
        endpoint = target.endpoint()
    seconds = iter(range(0, 10**11, 3 * 10**9))

    with pytest.raises(WorkloadFailed, match=r"iperf3 met an error|the host has no iperf3"):
        network.throughput(endpoint, 1, (), lambda: next(seconds))
