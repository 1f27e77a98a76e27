"""The service poll, against real sockets on the loopback."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from lab.bench.readiness import wait_http
from lab.target.spec import Endpoint

SECOND = 1_000_000_000


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
        stamp = wait_http(endpoint, clock=time.monotonic_ns, deadline_ns=begun + 20 * SECOND)

    assert stamp is not None
    assert answered[0] <= stamp
    assert stamp - begun >= 0.1 * SECOND


def test_a_service_that_never_comes_is_none() -> None:
    deadline = time.monotonic_ns() + SECOND // 20

    assert wait_http(_endpoint(), clock=time.monotonic_ns, deadline_ns=deadline) is None
