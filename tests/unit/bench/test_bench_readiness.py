"""The service poll, against real sockets on the loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given
from hypothesis import strategies as st

from lab.bench.readiness import step_ns, wait_http
from lab.target.spec import Endpoint

SECOND = 1_000_000_000
MS = 1_000_000


def _endpoint() -> Endpoint:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Endpoint(host="127.0.0.1", port=probe.getsockname()[1])


@contextmanager
def _answering(endpoint: Endpoint, *, after_s: float) -> Iterator[list[int]]:
    answered: list[int] = []
    stop = threading.Event()

    def serve() -> None:
        stop.wait(after_s)
        with socket.create_server((endpoint.host, endpoint.port)) as server:
            server.settimeout(0.05)
            while not stop.is_set():
                try:
                    client, _ = server.accept()
                except TimeoutError:
                    continue
                with client:
                    client.recv(100)
                    answered.append(time.monotonic_ns())
                    client.sendall(b"HTTP/1.0 200 OK\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    yield answered
    stop.set()
    thread.join()


def test_the_first_answer_is_stamped_after_it_was_given() -> None:
    endpoint = _endpoint()
    with _answering(endpoint, after_s=0.1) as answered:
        begun = time.monotonic_ns()
        answer = wait_http(endpoint, clock=time.monotonic_ns, requested_ns=begun, deadline_ns=begun + 20 * SECOND)

    assert answer is not None
    assert answered[0] <= answer.at_ns
    assert answer.at_ns - begun >= 0.1 * SECOND
    assert MS / 2 <= answer.resolution_ns <= max(MS / 2, (answer.at_ns - begun) / 200)


def test_a_reading_that_is_long_already_is_asked_for_less_often() -> None:
    begun = time.monotonic_ns()
    endpoint = _endpoint()
    with _answering(endpoint, after_s=0) as answered:
        answer = wait_http(
            endpoint, clock=time.monotonic_ns, requested_ns=begun - 10 * SECOND, deadline_ns=begun + 20 * SECOND
        )

    assert answer is not None
    assert answer.resolution_ns >= 50 * MS
    assert len(answered) == 1


@given(st.integers(min_value=0, max_value=600 * SECOND))
def test_the_pace_is_below_a_millisecond_for_fast_starts_and_half_a_percent_of_slow_ones(elapsed_ns: int) -> None:
    step = step_ns(elapsed_ns)

    assert step <= max(MS / 2, elapsed_ns / 200)
    assert step >= MS / 2
    assert step <= step_ns(elapsed_ns + step)


def test_a_start_of_two_seconds_is_not_asked_after_more_than_some_hundred_times() -> None:
    now, attempts = SECOND, 0  # a guest takes a second before anybody asks
    while now < 2 * SECOND:
        now += step_ns(now)
        attempts += 1

    assert attempts < 150


def test_a_service_that_never_comes_is_none() -> None:
    begun = time.monotonic_ns()

    assert wait_http(_endpoint(), clock=time.monotonic_ns, requested_ns=begun, deadline_ns=begun + SECOND // 20) is None
