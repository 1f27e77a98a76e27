"""A container's log as it grows, until the container has ended or nobody listens any more."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from lab.container import logs
from lab.container.containers import Container, Containers
from lab.errors import NoSuchContainer


def follow(
    containers: Containers,
    container: Container,
    reader: logs.Reader,
    wanted: logs.Wanted,
    *,
    listener: int | None = None,
) -> Iterator[logs.Piece]:
    """Give what is in the log of a running container, and what comes.

    It ends as well when the other side of the socket ``listener`` has gone.
    """

    def left() -> int | None:
        return None if wanted.until_ns is None else wanted.until_ns - time.time_ns()

    with ExitStack() as stack:
        try:
            process = os.pidfd_open(container.state.pid)
        except ProcessLookupError:
            yield from reader.pieces()
            return
        stack.callback(os.close, process)
        both = stack.enter_context(select.epoll())  # ready as soon as one of them is
        both.register(process, select.EPOLLIN)
        if listener is not None:
            both.register(listener, select.EPOLLRDHUP)
        ended = _end_of(containers, container.id, process, listener)
        bundle = container.state.bundle
        yield from logs.follow(reader, bundle, ended=ended, process=both.fileno(), until=left)


def _end_of(containers: Containers, container_id: str, process: int, listener: int | None) -> Callable[[], bool]:
    """Return what tells whether nothing more will come that anybody wants.

    That is so once a container's end has been noted; it has that done where nobody is there to do it.
    """

    def ended() -> bool:
        if listener is not None and is_gone(listener):
            return True
        try:
            found = containers.get(container_id)
        except NoSuchContainer:
            return True
        if found.ended is None and select.select([process], [], [], 0)[0]:  # also while it has not been reaped
            containers.engine.spawner.ensure()
        return found.ended is not None

    return ended


def is_gone(listener: int) -> bool:
    """Return whether the other side of a socket has gone, or says no more, without waiting for it."""
    poll = select.poll()
    poll.register(listener, select.POLLRDHUP)
    return bool(poll.poll(0))
