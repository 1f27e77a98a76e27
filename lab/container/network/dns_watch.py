"""Name servers that end though somebody still runs on their networks are noticed by the spawner.

    run/dns/<server>.pid    a name server of ``dns.py``, which removes the file when it is told to end

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from lab.container.loop import Loop

DIRECTORY = "dns"
SUFFIX = ".pid"


class NameServers:
    """All name servers of one root, each of which is watched from when it is first seen."""

    def __init__(self, loop: Loop, run_directory: str, on_lost: Callable[[], None]) -> None:
        """Watch none yet; ``on_lost`` is called when one has ended of itself."""
        self._loop = loop
        self._directory = os.path.join(run_directory, DIRECTORY)
        self._on_lost = on_lost
        self._watched: dict[str, int] = {}  # pidfd, by the name of the file
        self._lost: set[tuple[str, int]] = set()  # told already

    def look(self) -> None:
        """Watch those that have come."""
        try:
            names = os.listdir(self._directory)
        except OSError:  # no network of this root has names; or no descriptor is left: the next start looks again
            return
        for name in names:
            if name.endswith(SUFFIX) and name not in self._watched:
                self._watch(name)

    def _watch(self, name: str) -> None:
        pid = self._pid(name)
        if not pid:
            return
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            self._tell(name, pid)
            return
        except OSError:  # no descriptor is left
            return
        self._watched[name] = process
        self._loop.watch(process, lambda _: self._on_end(name, pid))

    def _on_end(self, name: str, pid: int) -> None:
        process = self._watched.pop(name)
        self._loop.forget(process)
        os.close(process)
        if self._pid(name) == pid:  # else it was told to, or another one is there already
            self._tell(name, pid)

    def _tell(self, name: str, pid: int) -> None:
        if (name, pid) not in self._lost:
            self._lost.add((name, pid))
            self._on_lost()

    def _pid(self, name: str) -> int:
        try:
            with open(os.path.join(self._directory, name), encoding="ascii") as file:
                return int(file.read())
        except (OSError, ValueError):
            return 0
