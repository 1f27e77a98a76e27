"""Waits for a service's first answer over TCP, as often as its reading needs, and no more often.

A connection attempt to a guest that is not up yet is not refused, it is lost, and the kernel would try again only
after a second. So a fresh attempt is begun at every step while older ones are still open, and the first answer wins.

Each attempt costs the target's kernel an interrupt and a refusal, and an emulated one 0.1 ms of its only processor:
asking at a fixed pace would slow down what is waited for. So the steps grow with the reading.
"""

from __future__ import annotations

import selectors
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from lab.target.spec import Endpoint
from lab.units import NS_PER_S

_SHORTEST_STEP_NS = 500_000
_STEPS_PER_READING = 200
_IN_FLIGHT = 64
_REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """When a service answered first, on the clock that it was waited for by.

    ``resolution_ns`` is the step at which it was being asked: the service was ready by so much earlier at most.
    """

    at_ns: int
    resolution_ns: int


def step_ns(elapsed_ns: int) -> int:
    """Return the time to the next attempt: half a millisecond, or 0.5 % of what has elapsed since the request."""
    return max(_SHORTEST_STEP_NS, elapsed_ns // _STEPS_PER_READING)


def wait_http(endpoint: Endpoint, *, clock: Callable[[], int], requested_ns: int, deadline_ns: int) -> Answer | None:
    """Return when the first byte of an HTTP answer came, on ``clock``; None when none came by the deadline.

    The reading begins at ``requested_ns``: with the time since then the steps grow.
    """
    with _Attempts(endpoint) as attempts:
        while (now := clock()) < deadline_ns:
            step = step_ns(now - requested_ns)
            attempts.begin()
            # a refusal comes at once, and must not make the next step come sooner: polling would eat a processor
            while (left := now + step - clock()) > 0:
                if attempts.answered(left / NS_PER_S):
                    return Answer(at_ns=clock(), resolution_ns=step)
    return None


class _Attempts:
    """Connections that are being made; each sends its request once connected."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._address = (endpoint.host, endpoint.port)
        self._selector = selectors.SelectSelector()  # epoll's time-outs are rounded up to whole milliseconds
        self._open: deque[socket.socket] = deque()

    def __enter__(self) -> _Attempts:
        return self

    def __exit__(self, *error: object) -> None:
        while self._open:
            self._drop(self._open[0])
        self._selector.close()

    def begin(self) -> None:
        """Begin one more attempt; the oldest is given up when there are too many."""
        # an attempt that is connected has sent its request: one that is being answered needs no rival
        if any(self._selector.get_key(attempt).events == selectors.EVENT_READ for attempt in self._open):
            return
        if len(self._open) >= _IN_FLIGHT:
            self._drop(self._open[0])
        attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        attempt.connect_ex(self._address)
        self._open.append(attempt)
        self._selector.register(attempt, selectors.EVENT_WRITE)

    def answered(self, timeout_s: float) -> bool:
        """Move every attempt on, waiting ``timeout_s`` at most, and return whether one has been answered."""
        for key, _ in self._selector.select(timeout_s):
            attempt = key.fileobj
            assert isinstance(attempt, socket.socket)  # nothing else is registered
            if self._advance(attempt, key.events):
                return True
        return False

    def _advance(self, attempt: socket.socket, events: int) -> bool:
        try:
            if events == selectors.EVENT_READ:
                if attempt.recv(1):
                    return True
                self._drop(attempt)
            else:
                attempt.send(_REQUEST)
                self._selector.modify(attempt, selectors.EVENT_READ)
        except OSError:  # refused, reset, unreachable: not up yet
            self._drop(attempt)
        return False

    def _drop(self, attempt: socket.socket) -> None:
        self._open.remove(attempt)
        self._selector.unregister(attempt)
        attempt.close()
