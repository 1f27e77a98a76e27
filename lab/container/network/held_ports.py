"""The ports of the host that the spawner holds for one container, by descriptors of ``holding.py``.

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container.loop import Loop
    from lab.container.network.holding import Held

_AGAIN_NS = 5_000_000_000  # between attempts to hold a port that another program has taken meanwhile


class HeldPorts:
    """What holds the ports that lead to a container, until they are released."""

    def __init__(self, loop: Loop, bundle: str) -> None:
        """Hold none yet."""
        self._loop, self._bundle = loop, bundle
        self._descriptors: list[int] = []
        self._regained: set[Held] = set()
        self._is_released = False

    @property
    def descriptors(self) -> tuple[int, ...]:
        """What holds them now."""
        return tuple(self._descriptors)

    def hold(self, descriptor: int) -> None:
        """Keep a descriptor that holds ports open until all are released."""
        self._descriptors.append(descriptor)

    def regain(self) -> None:
        """Hold again what an earlier spawner held: at once, or as soon as whoever has it now lets go."""
        if not self._is_released and not self._regain():
            self._loop.later(_AGAIN_NS, self.regain)

    def _regain(self) -> bool:
        from lab.container.network import holding  # only the successor of one that was killed has to

        try:
            missing = [held for held in holding.read(self._bundle) if held not in self._regained]
            if missing:
                self._descriptors += holding.hold_again(missing, self._regained)
        except OSError:  # no descriptor is left now
            return False
        return self._regained.issuperset(missing)

    def release(self, *others: int) -> None:
        """Hold no port any more, nor regain one; ``others`` are closed as well."""
        self._is_released = True
        for descriptor in (*self._descriptors, *others):
            os.close(descriptor)
        self._descriptors.clear()
