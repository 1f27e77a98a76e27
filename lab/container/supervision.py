"""What the shared spawner does for a container beyond starting it: keep its output, tell who listens, note its end.

It works on files of the container's directory, so that nothing is lost when it dies, and a new one goes on:

    stdout, stderr   named pipes; the container holds both ends, so it never writes into the void
    pid              its first process, when that was started, and what is to happen at its end (``Left``)
    exit             how it ended and when, and the number of the restart that follows (``Ended``)
    container.log    what it wrote: ``log_file.py``
    terminal         who keeps its terminal besides: ``terminal_keeper.py``
    check, health    its health check and what came of it: ``health.py``
    unmount          is there if a volume is to be unmounted when it has ended: ``volumes/mounting.py``
    ports            which ports of the host lead to it: ``network/holding.py``

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time

from lab.container import events
from lab.container.log_file import Log
from lab.container.loop import Loop
from lab.container.network import departure
from lab.container.network.held_ports import HeldPorts
from lab.container.streams import Listener, Output, Peek, TerminalInput
from lab.linux import sockets
from lab.linux.pidfd import start_time_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs milliseconds on the container start path
    from collections.abc import Callable

    Policy = tuple[str, int, int, bool]
    """Restart policy in docker's words, most restarts (0: any number), restarts done, remove at the end."""

PID_FILE = "pid"
EXIT_FILE = "exit"
STOPPING_FILE = "stopping"
"""There while a user wants the container to be stopped: no restart policy starts it again."""
PIPES = ("stdout", "stderr")

CHECK_FILE = "check"
UNMOUNT_FILE = "unmount"
"""There if the container's health is to be checked: see ``health.py``."""

POLICIES = ("no", "on-failure", "always", "unless-stopped")

LOST_CODE = 255
"""The exit code of a container whose end nobody saw; docker says so as well."""

_FIRST_DELAY_NS, _LONGEST_DELAY_NS, _SETTLED_NS = 100_000_000, 60_000_000_000, 10_000_000_000
_RETRY_NS = 500_000_000  # between attempts to note an end where that cannot be done now


class Supervised:
    """One container under supervision, from before its start until its end is noted."""

    def __init__(
        self,
        loop: Loop,
        bundle: str,
        policy: Policy,
        peek: Peek,
        *,
        has_terminal: bool,
        keeper: str = "",
        pack: Callable[[], None] | None = None,
    ) -> None:
        """Open the log and the pipes; a terminal comes later, from the container itself, by ``take_console``.

        ``keeper`` is the program that keeps a terminal besides, "" for none; ``pack`` has what is put away of the log
        compressed.
        """
        self._keeper = keeper
        self.id = os.path.basename(bundle)
        self._policy = policy
        self._has_terminal = has_terminal
        self._loop = loop
        self._bundle = bundle
        self.actor = events.Actor(bundle)
        self._peek = peek
        self._log = Log(bundle, pack)
        self._outputs: dict[str, Output] = {}
        self._waiting: list[tuple[str, Listener]] = []
        self._inputs: list[TerminalInput] = []
        self._kept: list[int] = []
        self.ports = HeldPorts(loop, bundle)
        self._channel = -1
        self._run = (0, 0)  # pid and start of its first process, once that is noted
        try:
            for name in () if has_terminal else PIPES:
                self._outputs[name] = self._open(name)
        except OSError:
            self._let_go()
            raise

    @property
    def log_size_bytes(self) -> int:
        """How long the log is now: what a listener that joins now has missed."""
        return self._log.size_bytes

    @property
    def is_only_kept(self) -> bool:
        """Whether all that is done for it could be taken up again from its files, and from the ports that are held."""
        return not (
            self._has_terminal
            or self._waiting
            or self._inputs
            or self._kept
            or any(output.is_heard for output in self._outputs.values())
        )

    def _path(self, name: str) -> str:
        return os.path.join(self._bundle, name)

    def _open(self, name: str) -> Output:
        descriptor = os.open(self._path(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        return Output(self._loop, name, descriptor, self._log, self._peek)

    def expect_console(self, channel: int) -> None:
        """Take over the socket over which the container's terminal comes."""
        self._channel = channel

    def take_console(self) -> None:
        """Receive the terminal that the container has opened for itself; one without has none.

        Raises:
            OSError: it has not come, or there is no descriptor left for it.
        """
        if self._channel < 0:
            return
        with sockets.Socket(fileno=self._channel) as channel:
            self._channel = -1
            _, masters = sockets.receive_descriptors(channel, 1, 1, sockets.MSG_DONTWAIT)
        if not masters:  # the kernel has dropped it
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        output = self._outputs["stdout"] = Output(self._loop, "stdout", masters[0], self._log, None)
        for _, listener in self._waiting:
            output.add(listener)
        self._waiting.clear()

    def take(self, streams: str, descriptors: list[int]) -> None:
        """Take copies of descriptors, all or none: a letter of ``streams`` says what each is for (see ``messages``).

        Raises:
            OSError: there is no descriptor left for them.
        """
        for letter, descriptor in zip(streams, _copies(descriptors), strict=True):
            if letter == "i":
                self.type(descriptor)
            elif letter == "k":
                self.keep(descriptor)
            elif letter == "p":
                self.ports.hold(descriptor)
            elif letter == "r":
                self.ports.release(descriptor)
            elif letter == "t":
                self.expect_console(descriptor)
            else:
                self.listen("stdout" if letter == "o" else "stderr", descriptor)

    def listen(self, stream: str, descriptor: int) -> None:
        """Let the owner of a pipe listen to a stream from now on; takes the writing end over."""
        listener = Listener(self._loop, descriptor)
        output = self._outputs.get(stream)
        if output is not None:
            output.add(listener)
        else:
            self._waiting.append((stream, listener))

    def type(self, source: int) -> None:
        """Let the owner of a pipe type on the container's terminal; takes the reading end over."""
        self._inputs.append(TerminalInput(self._loop, source, self._console))

    def keep(self, descriptor: int) -> None:
        """Keep a descriptor (the other end of standard input) open as long as the container lives."""
        self._kept.append(descriptor)

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal its size in characters; without terminal nothing happens."""
        if self._console() >= 0:
            import termios  # few have a terminal

            fcntl.ioctl(self._console(), termios.TIOCSWINSZ, struct.pack("=HHHH", rows, columns, 0, 0))

    def _console(self) -> int:
        output = self._outputs.get("stdout")
        return -1 if output is None else output.descriptor

    def keep_console(self, process: int) -> None:
        """Have ``keeper`` keep the terminal as well, until the process of a pidfd has ended.

        Without terminal nothing happens; a terminal that cannot be kept ends with this process.
        """
        if not self._keeper or self._console() < 0:
            return
        from lab.container import terminal_keeper  # whose pages only those pay for that have one

        try:
            terminal_keeper.keep(self._loop, self._keeper, self._bundle, process, self._console())
        except OSError:  # no process or descriptor is left, or the disk is full
            return

    def recover_console(self) -> None:
        """Take the terminal that was kept when an earlier spawner died; one that was not has ended with that.

        Raises:
            OSError: there is no descriptor left for it now.
        """
        if not self._has_terminal:
            return
        from lab.container import terminal_keeper

        master = terminal_keeper.recover(self._bundle)
        if master is not None:
            self._outputs["stdout"] = Output(self._loop, "stdout", master, self._log, None)

    def began(self, pid: int) -> None:
        """Note the first process of a start that is under way.

        Raises:
            OSError: it cannot be noted, and everything is as before; the start has to fail.
        """
        left = Left(pid, start_time_ticks(pid), time.time_ns(), has_terminal=self._has_terminal, policy=self._policy)
        for name in (PID_FILE, EXIT_FILE):
            self._remove(_before(name))
        if os.path.exists(self._path(PID_FILE)):
            os.link(self._path(PID_FILE), self._path(_before(PID_FILE)))
        self._write(PID_FILE, left.text())
        self.go_on(left)
        self._move(EXIT_FILE, _before(EXIT_FILE))

    def go_on(self, left: Left) -> None:
        """Look after a run that is noted already."""
        self._run = left.pid, left.started_ticks

    def failed(self) -> None:
        """Let go of everything: the start has failed, and the container is as before."""
        if self._run[0]:
            self._move(_before(EXIT_FILE), EXIT_FILE)
            if not self._move(_before(PID_FILE), PID_FILE):
                self._remove(PID_FILE)
        self._let_go()

    def set_restart(self, name: str, most: int) -> None:
        """Follow another restart policy from now on."""
        _, _, done, removes = self._policy
        policy = (name, most, done, removes)
        left = read_pid_file(self._bundle)
        if left is not None:
            left.policy = policy
            self._write(PID_FILE, left.text())
        self._policy = policy

    @property
    def removes(self) -> bool:
        """Whether the container is to be removed when it has ended."""
        return self._policy[3]

    def ended(self, code: int, restart: Callable[[], None]) -> bool:
        """Read the rest of its output, then note how it ended: whoever sees the note has all of the output.

        Returns whether it is to be started again; ``restart`` is called then, once that is noted.
        """
        self._let_go()
        restarts = self._is_to_restart(code)
        self.actor.died(code)
        departure.begin(self._loop, self._bundle)
        text = f"{code} {time.time_ns()} {self._policy[2] + 1 if restarts else 0}"
        self._note_end(text, restart if restarts else _nothing)
        return restarts

    def _is_to_restart(self, code: int) -> bool:
        name, most, done, _ = self._policy
        if os.path.exists(self._path(STOPPING_FILE)):
            return False
        return name in ("always", "unless-stopped") or (
            name == "on-failure" and code != 0 and (not most or done < most)
        )

    def _note_end(self, text: str, then: Callable[[], None]) -> None:
        try:
            left = read_pid_file(self._bundle)
            if left is None or (left.pid, left.started_ticks) != self._run:
                return  # somebody has removed it meanwhile, or started it again
            self._write(EXIT_FILE, text)
        except OSError:  # a full disk, or no descriptor is left now
            self._loop.later(_RETRY_NS, lambda: self._note_end(text, then))
        else:
            then()

    def _let_go(self) -> None:
        for output in self._outputs.values():
            output.finish()
        for _, listener in self._waiting:
            listener.end()
        for source in self._inputs:
            source.close()
        if self._channel >= 0:
            self._kept.append(self._channel)
        self.ports.release()
        for descriptor in self._kept:
            os.close(descriptor)
        self._kept.clear()
        self._log.close()

    def _write(self, name: str, text: str) -> None:
        write_bytes(self._path(name), text.encode())

    def _remove(self, name: str) -> None:
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            return

    def _move(self, name: str, to: str) -> bool:
        """Give a file another name, for which a full disk has room; return whether there was one."""
        try:
            os.rename(self._path(name), self._path(to))
        except FileNotFoundError:
            return False
        return True


def _copies(descriptors: list[int]) -> list[int]:
    copies: list[int] = []
    try:
        for descriptor in descriptors:
            copies.append(os.dup(descriptor))
    except OSError:
        for descriptor in copies:
            os.close(descriptor)
        raise
    return copies


def _before(name: str) -> str:
    """Return where a file is kept that told of the run before, until a start has not failed."""
    return f".{name}.before"


def _nothing() -> None:
    return


class Left:
    """What the pid file says: ``started_ns`` is the time of day, ``policy`` as in ``Policy``."""

    __slots__ = ("has_terminal", "pid", "policy", "started_ns", "started_ticks")

    def __init__(self, pid: int, started_ticks: int, started_ns: int, *, has_terminal: bool, policy: Policy) -> None:
        self.pid = pid
        self.started_ticks = started_ticks
        self.started_ns = started_ns
        self.has_terminal = has_terminal
        self.policy = policy

    @classmethod
    def parse(cls, text: str) -> Left:
        """Return what the file's text says."""
        pid, ticks, started_ns, terminal, name, most, done, removes = map(int, text.split())
        policy = (POLICIES[name], most, done, bool(removes))
        return cls(pid, ticks, started_ns, has_terminal=bool(terminal), policy=policy)

    def text(self) -> str:
        """Return what the file is to say."""
        name, most, done, removes = self.policy
        numbers = (self.pid, self.started_ticks, self.started_ns, self.has_terminal, POLICIES.index(name), most, done)
        return " ".join(str(int(number)) for number in (*numbers, removes))


class Ended:
    """What the exit file says: ``ended_ns`` is the time of day, ``next_restart`` 0 if it is not started again."""

    __slots__ = ("code", "ended_ns", "next_restart")

    def __init__(self, text: str) -> None:
        self.code, self.ended_ns, self.next_restart = map(int, text.split())


def read_pid_file(bundle: str) -> Left | None:
    """Return what is known of a container's last start under supervision; None before the first."""
    text = read_text(os.path.join(bundle, PID_FILE))
    return Left.parse(text) if text else None


def read_exit_file(bundle: str) -> Ended | None:
    """Return how a container ended that was under supervision; None while it has not."""
    text = read_text(os.path.join(bundle, EXIT_FILE))
    return Ended(text) if text else None


def is_noted(bundle: str) -> bool:
    """Return whether it is known how the last run of a container ended, if there was one and it has ended."""
    return not os.path.exists(os.path.join(bundle, PID_FILE)) or os.path.exists(os.path.join(bundle, EXIT_FILE))


def cancel_restart(bundle: str) -> None:
    """Let a container that waits for its restart be one that has ended; any other stays as it is."""
    ended = read_exit_file(bundle)
    if ended is not None and ended.next_restart:
        write_bytes(os.path.join(bundle, EXIT_FILE), f"{ended.code} {ended.ended_ns} 0".encode())


def restart_delay_ns(before_ns: int, ran_ns: int) -> int:
    """Return how long a restart waits, when the one before waited ``before_ns`` (0: none) and the run took ``ran_ns``.

    Source: github.com/moby/moby, daemon/restartmanager: 100 ms, doubled up to a minute; from a run of 10 s on anew.
    """
    if not before_ns or ran_ns >= _SETTLED_NS:
        return _FIRST_DELAY_NS
    return min(2 * before_ns, _LONGEST_DELAY_NS)


def write_bytes(path: str, data: bytes) -> None:
    """Replace a file of a container whole; one whose container has been removed meanwhile, by force, is no error.

    Raises:
        OSError: with errno and path.
    """
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temporary)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except FileNotFoundError:
        return


def read_text(path: str) -> str:
    """Return the text of a small file, "" if there is none."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return ""
