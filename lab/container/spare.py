"""A descriptor that is kept for when no other is left: so a request can still be heard then, and be refused.

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os


class Spare:
    """One descriptor that stands for nothing; in a ``with`` block its place is free."""

    def __init__(self) -> None:
        """Take it.

        Raises:
            OSError: none is left already.
        """
        self._number = _open()

    @property
    def is_there(self) -> bool:
        """Whether another one could be had after its place was used."""
        return self._number >= 0

    def __enter__(self) -> None:
        """Give its place away."""
        if self._number >= 0:
            os.close(self._number)
            self._number = -1

    def __exit__(self, *_: object) -> None:
        """Take another one, if it is to be had."""
        self.take()

    def take(self) -> None:
        """Take one, if it is not there and is to be had."""
        if self._number < 0:
            try:
                self._number = _open()
            except OSError:
                return


def _open() -> int:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
