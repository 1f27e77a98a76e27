"""Clients that are connected with a container before it starts: docker's ``run`` attaches first, and starts then.

They are part of their connections, and nothing else knows of them: whose server ends has no connection any more.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lab.container.spawner_client import Running, Streams


class Ends:
    """The container's ends of one client's pipes, by the names of ``Streams``."""

    def __init__(self, descriptors: dict[str, int], *, has_input: bool) -> None:
        """Take the descriptors over; ``has_input`` if the client holds the container's standard input."""
        self._descriptors = descriptors
        self.has_input = has_input
        self._begun = os.eventfd(0, os.EFD_CLOEXEC)

    @property
    def streams(self) -> Streams:
        """The descriptors as a start or an attach takes them."""
        return Streams(**self._descriptors)

    @property
    def begun(self) -> int:
        """A descriptor that is readable from the start on."""
        return self._begun

    def use_up(self) -> None:
        """Close them, since they have been handed over or nobody will ask for them; safe to call twice."""
        if self._descriptors:
            os.eventfd_write(self._begun, 1)
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])

    def close(self) -> None:
        """Close everything; once, by whoever made it."""
        self.use_up()
        os.close(self._begun)


class WaitingClients:
    """Who waits for the start of which container."""

    def __init__(self) -> None:
        """Nobody waits yet."""
        self._ends: dict[str, list[Ends]] = {}
        self._lock = threading.Lock()
        self._using = threading.Lock()

    @contextmanager
    def waiting(self, container_id: str, ends: Ends) -> Iterator[None]:
        """Let a client wait while the block lasts, or until its ends have been used; they are closed at the end."""
        with self._lock:
            self._ends.setdefault(container_id, []).append(ends)
        try:
            yield
        finally:
            with self._using:  # a start may have them just now
                self._leave(container_id, ends)
                ends.close()

    def _leave(self, container_id: str, ends: Ends) -> None:
        with self._lock:
            left = [each for each in self._ends.pop(container_id, []) if each is not ends]
            if left:
                self._ends[container_id] = left

    @contextmanager
    def taken(self, container_id: str) -> Iterator[list[Ends]]:
        """Give the ends of those that have waited until now, for a start; they are used up when the block ends."""
        with self._lock:
            taken = self._ends.pop(container_id, [])
        if not taken:
            yield taken
            return
        with self._using:
            try:
                yield taken
            finally:
                for ends in taken:
                    ends.use_up()


class Witness:
    """A client that waits for a container's removal: it gets the process to wait for, and removes it then."""

    def __init__(self) -> None:
        """The container has not been started yet."""
        self.running: Running | None = None
        self.begun = os.eventfd(0, os.EFD_CLOEXEC)

    def close(self) -> None:
        """Leave the rest to the container's supervisor; once."""
        os.close(self.begun)
        if self.running is not None:
            self.running.close()


class Witnesses:
    """Who removes which container at its end, sooner than the container's supervisor could do it.

    The supervisor sees when nobody listens to its answers any more, and removes the container itself then.
    """

    def __init__(self) -> None:
        """There are none yet."""
        self._known: dict[str, Witness] = {}
        self._lock = threading.Lock()

    @contextmanager
    def waiting(self, container_id: str) -> Iterator[Witness]:
        """Give a witness for the time of the block; the first one of a container is the one that is handed to."""
        witness = Witness()
        with self._lock:
            self._known.setdefault(container_id, witness)
        try:
            yield witness
        finally:
            with self._lock:
                if self._known.get(container_id) is witness:
                    del self._known[container_id]
                witness.close()

    def hand_over(self, container_id: str, running: Running) -> None:
        """Give what a start has returned to whoever waits for the container's removal, else let it go."""
        with self._lock:
            witness = self._known.get(container_id)
            if witness is None or witness.running is not None:
                running.close()
                return
            witness.running = running
            os.eventfd_write(witness.begun, 1)
