"""The terminals of executions that clients are connected with: parts of their connections, as in ``waiting.py``."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lab.errors import StateConflict
from lab.linux import pty


class Terminals:
    """Terminals by the ids of executions."""

    def __init__(self) -> None:
        """There are none yet."""
        self._masters: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def open(self, execution_id: str, master: int) -> Iterator[None]:
        """Let a terminal be resized while the block lasts; the descriptor stays the caller's."""
        with self._lock:
            self._masters[execution_id] = master
        try:
            yield
        finally:
            with self._lock:
                del self._masters[execution_id]

    def resize(self, execution_id: str, rows: int, columns: int) -> None:
        """Tell a terminal its size in characters.

        Raises:
            StateConflict: nobody is connected with it.
        """
        with self._lock:
            if execution_id not in self._masters:
                raise StateConflict(f"cannot resize a stopped exec instance, or one without terminal: {execution_id}")
            pty.set_size(self._masters[execution_id], rows, columns)
