"""Ctrl-C and SIGTERM while something is measured: once, and never in the middle of making or removing something."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any  # what signal.signal returns has no narrower type

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Turns the first signal into KeyboardInterrupt, not within ``held`` blocks; later ones do nothing."""

    def __init__(self) -> None:
        """Change nothing yet."""
        self._held = False
        self._pending = False
        self._raised = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        self._previous = {number: signal.signal(number, self._interrupt) for number in SIGNALS}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        if self._raised:
            return
        self._pending = True
        if not self._held:
            self.deliver()

    def deliver(self) -> None:
        """Raise KeyboardInterrupt if an interruption has been waiting."""
        if self._pending:
            self._pending, self._raised = False, True
            raise KeyboardInterrupt

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let an interruption wait until the end of the block, which makes or removes something."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        # not after a failure, which would be lost: whoever catches it must deliver
        self.deliver()
