"""A small event loop over epoll, for a process that has to stay lean: asyncio alone would cost it 70 ms and its pages.

Handlers are called with the events that are ready. One thread only.
"""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs milliseconds on the container start path
    from collections.abc import Callable

READABLE = select.EPOLLIN
WRITABLE = select.EPOLLOUT
ONLY_ERRORS = 0
"""Nothing but what is always told: of a pipe's writing end, that its reader has gone."""
_NS_PER_S = 1_000_000_000


class Loop:
    """Descriptors with what to call when they are ready, and actions for later."""

    def __init__(self) -> None:
        """Watch nothing yet."""
        self._poll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0

    def watch(self, descriptor: int, handler: Callable[[int], None], events: int = READABLE) -> None:
        """Call ``handler`` with the events whenever ``descriptor`` is ready; it stays its owner's to close."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, events)

    def forget(self, descriptor: int) -> None:
        """Stop watching a descriptor, before it is closed; one that is not watched is no error."""
        if self._handlers.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def later(self, delay_ns: int, action: Callable[[], None]) -> None:
        """Call ``action`` once, ``delay_ns`` from now."""
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic_ns() + delay_ns, self._count, action))

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that is watched, in the order in which it came."""
        return tuple(self._handlers)

    @property
    def has_timers(self) -> bool:
        """Whether something is to be called later."""
        return bool(self._timers)

    def step(self, longest_ns: int = -1) -> bool:
        """Wait until something is ready or due, at most ``longest_ns`` if that is not negative, and call all that is.

        What is only asked for meanwhile has to wait for the next step: else what comes again at once would let nothing
        else happen any more. Returns whether something was ready; what was due does not count.
        """
        ready = self._poll.poll(self._until_next_s(longest_ns))
        for descriptor, events in ready:
            handler = self._handlers.get(descriptor)
            if handler is not None:  # else forgotten by a handler before it in this very step
                handler(events)
        now_ns = time.monotonic_ns()
        while self._timers and self._timers[0][0] <= now_ns:
            heapq.heappop(self._timers)[2]()
        return bool(ready)

    def _until_next_s(self, longest_ns: int) -> float:
        if not self._timers:
            return longest_ns / _NS_PER_S if longest_ns >= 0 else -1
        next_ns = max(0, self._timers[0][0] - time.monotonic_ns())
        return (min(next_ns, longest_ns) if longest_ns >= 0 else next_ns) / _NS_PER_S
