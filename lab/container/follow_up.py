"""What follows the end of a container, as far as the spawner goes: who starts it again or removes it, and when.

The work itself takes more than the spawner has imported: ``aftermath.py`` does it, in a process of its own each time.
This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os
import sys

from lab.container import supervision
from lab.container.loop import ONLY_ERRORS, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container.network.dns_watch import NameServers

_PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from lab.container.aftermath import main
sys.exit(main(sys.argv[2:]))
"""
TRY_AGAIN = 75
"""The exit code of one that could not do it now; of sysexits.h."""
_RETRY_NS = 500_000_000  # between attempts to make a process where none can be made
_AGAIN_NS = 5_000_000_000  # between attempts of what could not be done, which cost a process each
_ANSWERED_NS = 5_000_000_000  # within which a name server has been started again
_SIGKILL = 9
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}  # for dnsmasq, iptables


class FollowUps:
    """All that is still to follow the ends of containers below one root."""

    def __init__(self, loop: Loop, paths: tuple[str, ...]) -> None:
        """Nothing follows yet; ``paths`` are root, cache and run directory, none for a spawner that nobody shares."""
        self._loop = loop
        self._paths = paths
        self._commands = 0  # that run, or will
        self._witnessed = 0  # ends of containers that whoever was told removes
        self._delays_ns: dict[str, int] = {}  # before the last restart, by container id
        self._name_servers: NameServers | None = None

    @property
    def are_due(self) -> bool:
        """Whether something is still to follow."""
        return bool(self._commands or self._witnessed)

    def bundle(self, container_id: str) -> str:
        """Return the directory of a container."""
        return os.path.join(self._paths[0], "containers", container_id)

    def restart(self, container_id: str, ran_ns: int) -> None:
        """Start a container again, which has run for ``ran_ns``: the later, the more often it has ended soon."""
        delay_ns = supervision.restart_delay_ns(self._delays_ns.get(container_id, 0), ran_ns)
        self._delays_ns[container_id] = delay_ns
        self.run(container_id, "restart", delay_ns)

    def settle(self, container_id: str) -> None:
        """Forget how often a container has been started again: it has ended for good."""
        self._delays_ns.pop(container_id, None)

    def await_removal(self, container_id: str, witness: int) -> None:
        """Leave the removal to who was told of the end, until that one closes its pipe without having done it.

        ``witness`` is the writing end of that pipe, which is taken over.
        """
        self._witnessed += 1

        def on_closed(_: int) -> None:
            self._witnessed -= 1
            self._loop.forget(witness)
            os.close(witness)
            if os.path.isdir(self.bundle(container_id)):
                self.run(container_id, "remove")

        self._loop.watch(witness, on_closed, ONLY_ERRORS)

    def look_at_name_servers(self) -> None:
        """Watch the name servers that there are now: one that is lost is started again if a container needs it."""
        if self._name_servers is None and self._paths and os.path.isdir(os.path.join(self._paths[2], "dns")):
            from lab.container.network.dns_watch import NameServers  # few roots have networks with names

            self._name_servers = NameServers(self._loop, self._paths[2], self._answer_again)
        if self._name_servers is not None:
            self._name_servers.look()

    def _answer_again(self) -> None:
        self.run("", "answer")
        self._loop.later(_ANSWERED_NS, self.look_at_name_servers)  # whether it stays

    def run(self, container_id: str, verb: str, delay_ns: int = 0) -> None:
        """Have ``aftermath`` carry out one of its verbs on a container, ``delay_ns`` from now."""
        self._commands += 1
        self._loop.later(delay_ns, lambda: self._launch(container_id, verb))

    def _launch(self, container_id: str, verb: str) -> None:
        argv = (sys.executable, "-I", "-c", _PROGRAM, _package_root(), verb, container_id, *self._paths)
        try:
            process = _spawn(argv)
        except OSError:  # no process, descriptor or memory can be had now
            self._loop.later(_RETRY_NS, lambda: self._launch(container_id, verb))
            return

        def reap(_: int) -> None:
            status = os.waitid(os.P_PIDFD, process, os.WEXITED)
            self._loop.forget(process)
            os.close(process)
            if status is not None and status.si_status == TRY_AGAIN:
                self._loop.later(_AGAIN_NS, lambda: self._launch(container_id, verb))
            else:
                self._commands -= 1

        self._loop.watch(process, reap)


def _spawn(argv: tuple[str, ...]) -> int:
    """Run a program, and return its pidfd; a program whose end could not be seen is none."""
    pid = os.posix_spawn(argv[0], argv, _ENVIRONMENT)
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.kill(pid, _SIGKILL)
        os.waitpid(pid, 0)
        raise


def _package_root() -> str:
    return os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
