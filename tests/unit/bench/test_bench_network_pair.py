"""The client of the workload network-pair against a real web server, and what it prints."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from lab.bench.workloads import network_pair
from lab.bench.workloads.catalogue import WORKLOADS
from lab.bench.workloads.protocol import defaults
from lab.errors import WorkloadFailed
from lab.linux import command

from .test_bench_network import serving

MACHINE = os.uname().machine

needs_perl = pytest.mark.skipif(shutil.which("perl") is None, reason="perl, which the image has, is not here")


@needs_perl
def test_the_client_times_each_request_on_one_connection() -> None:
    with serving(b"ready") as target:
        done = command.run(network_pair.client(target.endpoint(), 20, MACHINE).argv, timeout_s=20)
    times = network_pair.parse(done.stdout, 20)
    assert done.exit_code == 0
    assert all(0 < taken < 20 * 10**9 for taken in times)


@needs_perl
def test_a_client_that_gets_another_answer_or_none_fails() -> None:
    with serving(b"other", keep_alive=False) as target:
        endpoint = target.endpoint()
        done = command.run(network_pair.client(endpoint, 1, MACHINE).argv, timeout_s=20)
        assert done.exit_code != 0
        assert b"the web server answered" in done.stderr
    assert command.run(network_pair.client(endpoint, 1, MACHINE).argv, timeout_s=20).exit_code != 0


@pytest.mark.parametrize("output", [b"", b"{}", b"[1,2]", b"[1,2,3.5]", json.dumps(["a"] * 3).encode()])
def test_what_is_not_as_many_times_is_a_failure(output: bytes) -> None:
    with pytest.raises(WorkloadFailed, match="printed no 3 times"):
        network_pair.parse(output, 3)


def test_a_machine_whose_clock_is_not_known_is_said_so() -> None:
    with serving(b"ready") as target, pytest.raises(WorkloadFailed, match="no clock on vax"):
        network_pair.client(target.endpoint(), 1, "vax")


def test_it_is_judged_by_requests_or_without_them_by_throughput() -> None:
    workload = WORKLOADS["network-pair"]
    assert workload.primary(defaults(workload))[0] == "pair_latency"
    assert workload.primary({**defaults(workload), "requests": 0})[0] == "pair_rate"
    assert "/usr/bin/perl" in workload.needs(defaults(workload), 20_000).programs
