"""Debian's dockerd on a socket and a data root of the lab's own, for hosts whose own daemon does not run.

It touches no firewall rule and makes no default bridge; it dies with the process that started it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import time

from lab.container.storage import snapshots
from lab.errors import UnavailableError
from lab.linux import command
from lab.paths import Paths
from lab.units import NS_PER_S

_START_NS = 60 * NS_PER_S
_POLL_S = 0.02


class PrivateDaemon:
    """One dockerd; ``stop`` ends it, its containerd, and removes what only lives while it runs."""

    def __init__(self, paths: Paths) -> None:
        """Take note of the directories; nothing is started."""
        self._state = os.path.join(paths.run, "dockerd")
        self._data = os.path.join(paths.root, "docker")
        self._process: command.Process | None = None

    @property
    def socket(self) -> str:
        """The socket's path."""
        return os.path.join(self._state, "docker.sock")

    @property
    def pid(self) -> int | None:
        """The daemon's pid, None when it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the daemon and return when it answers; one that runs is left alone.

        Raises:
            UnavailableError: it ended, or did not answer; with the last line of its log.
        """
        if self._process is not None:
            return
        os.makedirs(self._state, mode=0o700, exist_ok=True)
        with open(os.path.join(self._state, "log"), "wb") as log:
            self._process = command.spawn(self._argv(), stdout=log, stderr=log, start_new_session=True)
        atexit.register(self.stop)
        deadline_ns = time.monotonic_ns() + _START_NS
        while command.run(("docker", "-H", f"unix://{self.socket}", "version")).exit_code != 0:
            if self._process.poll() is not None or time.monotonic_ns() > deadline_ns:
                reason = self._last_line()
                self.stop()
                raise UnavailableError(f"dockerd does not start: {reason}", hint="run `dockerd` by hand to see why")
            time.sleep(_POLL_S)

    def _argv(self) -> tuple[str, ...]:
        state = self._state
        return (
            *("setpriv", "--pdeathsig", "TERM", "dockerd", f"--host=unix://{self.socket}", f"--data-root={self._data}"),
            *(f"--exec-root={state}/exec", f"--pidfile={state}/pid", "--bridge=none", "--iptables=false"),
            *("--ip-forward=false", "--ip-masq=false", "--exec-opt=native.cgroupdriver=cgroupfs"),
        )

    def _last_line(self) -> str:
        with open(os.path.join(self._state, "log"), encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()
        return lines[-1] if lines else "no reason given"

    def stop(self) -> None:
        """Stop the daemon and its containers; safe to call twice. Its images are kept."""
        process, self._process = self._process, None
        if process is None:
            return
        atexit.unregister(self.stop)
        process.terminate()
        process.wait()
        snapshots.unmount_below(self._state)
        snapshots.unmount_below(self._data)
        shutil.rmtree(self._state, ignore_errors=True)
