"""The engine's end of its spawner: send it plans, read what becomes of each process.

Safe to use from many threads: requests are sent under a lock, answers come through a pipe per request.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.container import assembler, compiled, init_plan, messages, spawner_start, user_namespace, wire
from lab.container.network.model import AttachmentFields
from lab.errors import ContainerError, KernelError
from lab.linux import namespaces as ns
from lab.linux import sockets
from lab.paths import Paths

_ENOENT, _ESRCH, _E2BIG, _ENFILE, _EMFILE, _EMSGSIZE = 2, 3, 7, 23, 24, 90
_SPAWNERS_OWN = (wire.FULL[0], messages.SPAWN, messages.JOIN, messages.ATTACH)
_FULL_HINT = "the spawner needs five for each container: stop some, or have it start where `ulimit -Hn` is higher"
_USER_STEP = "set_named_user"  # whose own errors say all, in docker's words
_MOST_DEATHS = 20
"""How many spawners in a row may end before they have answered, until none is asked again."""
EncodedPlan = bytes
"""A plan on its way: what ``SpawnerClient.encode`` makes of it."""

_MARKS = {b"n": "namespaces", b"e": "environment"}


class SpawnerDied(ContainerError):  # noqa: N818 - a fact about another process
    """The spawner has gone, and with it, by the kernel's hand, all that it had started."""


class StartFailed(ContainerError):  # noqa: N818
    """A step between clone and exec failed; nothing of the process is left.

    ``exit_code`` is what docker would give: 127 program not found, 126 not executable, 125 the engine's own failure.
    """

    def __init__(self, step: str, errno: int, reason: str, path: str) -> None:
        subject = f" {path}" if path else ""
        what = "" if step == _USER_STEP and not errno else f"{step.replace('_', ' ')}{subject}: "
        hint = _FULL_HINT if step in _SPAWNERS_OWN and errno in (_ENFILE, _EMFILE) else ""
        super().__init__(f"{what}{reason}" + (f" (errno {errno})" if errno else ""), hint=hint)
        self.step = step
        self.errno = errno
        self.path = path
        self.exit_code = _exit_code(step, errno)


def _exit_code(step: str, errno: int) -> int:
    if step != "execute":
        return 125
    return 127 if errno == _ENOENT else 126


@dataclass(frozen=True, slots=True, kw_only=True)
class Stdio:
    """The descriptors that a process gets as its standard input, output and error; they stay the caller's."""

    stdin: int
    stdout: int
    stderr: int


class Running:
    """One process that the spawner has started: its pid, its marks, and in the end its exit code.

    ``marks_ns`` are (name, CLOCK_MONOTONIC) in order: spawned, namespaces, environment (not for exec), userspace.
    """

    def __init__(self, answers: int, channel: sockets.Plain) -> None:
        """Take over the reading end of a request's pipe, sent over ``channel``; ``await_started`` comes next."""
        self.pid = 0
        self.marks_ns: tuple[tuple[str, int], ...] = ()
        self.exited_at_ns: int | None = None
        self.log_bytes = 0
        self._answers = answers
        self._channel = channel
        self._buffer = bytearray()
        self._exit_code: int | None = None
        self._lock = threading.Lock()

    def await_started(self) -> None:
        """Return when the program has been executed.

        Raises:
            StartFailed: it could not be.
            SpawnerDied: the spawner ended meanwhile.
        """
        while True:
            message = self._next(None)
            if message is None:
                self.close()
                raise _gone(self._channel)
            if message[0] == messages.STARTED:
                _, self.pid, spawned_ns, started_ns, marks = message
                seen = tuple((_MARKS[letter], at_ns) for letter, at_ns in marks)
                # the child may run before the clone returns to its parent: it exists when it does something itself
                exists_ns = min((spawned_ns, *(at_ns for _, at_ns in seen)))
                self.marks_ns = (("spawned", exists_ns), *seen, ("userspace", started_ns))
                return
            if message[0] == messages.ATTACHED:
                self.log_bytes = message[1]
                return
            if message[0] == messages.FAILED:
                self.close()
                raise StartFailed(*message[1:])

    def wait(self, deadline_ns: int | None = None) -> int | None:
        """Return the exit code (128+n after death by signal n), or None at ``deadline_ns`` (CLOCK_MONOTONIC).

        Raises:
            SpawnerDied: the spawner ended before the process: the kernel has killed it with SIGKILL.
        """
        with self._lock:
            if self._exit_code is None:
                try:
                    message = self._next(deadline_ns)
                except TimeoutError:
                    return None
                if message is None:
                    raise _gone(self._channel)
                self._exit_code, self.exited_at_ns = message[1], message[2]
            return self._exit_code

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when the process has ended; then ``wait`` does not block."""
        return self._answers

    def kill_group(self) -> None:
        """Send SIGKILL to the process and its process group; one that has ended is no error."""
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(self.pid)  # from here on the pid is not given to another
            try:
                if self.wait(time.monotonic_ns()) is None:
                    os.killpg(self.pid, signal.SIGKILL)
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Stop listening for the exit code; safe to call twice."""
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1

    def _next(self, deadline_ns: int | None) -> wire.Message | None:
        while (message := wire.parse(self._buffer)) is None:
            _await_readable(self._answers, deadline_ns)
            data = os.read(self._answers, 65536)
            if not data:
                return None
            self._buffer += data
        return message


def _died() -> SpawnerDied:
    return SpawnerDied(
        "the engine's spawner has ended unexpectedly, and all that it had started with it",
        hint="start the container again; if it was killed for memory, `dmesg | grep -i oom` shows it",
    )


def _gone(channel: sockets.Plain) -> ContainerError:
    """Return what to raise when the spawner has closed a connection: it has refused it, or has died."""
    refused = wire.refusal(channel)
    return _died() if refused is None else StartFailed(*refused)


def _await_readable(descriptor: int, deadline_ns: int | None) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    remaining_ms = None if deadline_ns is None else max(0, deadline_ns - time.monotonic_ns()) / 1e6
    if not poll.poll(remaining_ms):
        raise TimeoutError


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """What the shared spawner connects a container with; all descriptors stay the caller's.

    ``stdout`` and ``stderr`` are pipes that get the output (with a terminal there is stdout only), ``typed`` is one to
    be typed on the terminal, ``kept`` and ``ports`` are only kept open as long as the container lives, the latter
    until any descriptor comes as ``no_ports``; ``console`` is where the terminal's master comes out of the container
    (``console.Pair``).
    """

    stdout: int | None = None
    stderr: int | None = None
    typed: int | None = None
    kept: int | None = None
    ports: int | None = None
    no_ports: int | None = None
    console: int | None = None

    def letters(self) -> str:
        """Return the streams as a request names them."""
        return "".join(letter for letter, number in zip("oeikprt", self._all(), strict=True) if number is not None)

    def descriptors(self) -> tuple[int, ...]:
        """Return the descriptors in the order of ``letters``."""
        return tuple(number for number in self._all() if number is not None)

    def _all(self) -> tuple[int | None, ...]:
        return (self.stdout, self.stderr, self.typed, self.kept, self.ports, self.no_ports, self.console)


@dataclass(frozen=True, slots=True, kw_only=True)
class Supervision:
    """How the shared spawner is to look after a container: see ``supervision.py``.

    ``restart`` is docker's policy, ``restarts_most`` 0 for any number, ``restarts_done`` how many this start follows;
    ``terminal_keeper`` the program that keeps its terminal, "" for none.
    """

    bundle: str
    has_terminal: bool = False
    streams: Streams = field(default_factory=Streams)
    restart: str = "no"
    restarts_most: int = 0
    restarts_done: int = 0
    removes: bool = False
    terminal_keeper: str = ""

    def fields(self) -> tuple[str, bool, str, tuple[str, int, int, bool], str]:
        """Return what the spawner takes."""
        policy = (self.restart, self.restarts_most, self.restarts_done, self.removes)
        return (self.bundle, self.has_terminal, self.streams.letters(), policy, self.terminal_keeper)


class SpawnerClient:
    """A spawner of our own, or the shared one of a root; started at first use and again after its death."""

    def __init__(self, cache: str, shared: Paths | None = None) -> None:
        """Start nothing yet; ``cache`` is where what is compiled is, ``shared`` the root whose spawner is meant."""
        self._cache = cache
        self._machine: str | None = None  # not yet looked for
        self._shared = shared
        self._lock = threading.Lock()
        self._process: int | None = None
        self._control: sockets.Socket | None = None

    @property
    def pid(self) -> int | None:
        """The spawner's pid, None while there is none."""
        return self._process

    def encode(self, plan: Sequence[init_plan.InitOp]) -> EncodedPlan:
        """Return a plan as it travels to the spawner; made beforehand, it costs the start nothing.

        It is (machine, its program, what its failures mean, ()), or ("", b"", b"", steps) for one that takes Python.
        """
        steps: wire.Message = tuple((op.name, op.arguments) for op in plan)
        if self._machine is None:
            self._machine = compiled.machine(self._cache)
        assembled = assembler.assemble(steps) if self._machine else None
        if assembled is None:
            return marshal.dumps(("", b"", b"", steps))
        program, table = assembled
        return marshal.dumps((self._machine, program, marshal.dumps(table), ()))

    def spawn(
        self, plan: Sequence[init_plan.InitOp], *, flags: int, stdio: Stdio, cgroup: int | None = None
    ) -> Running:
        """Clone a process into new namespaces, carry the plan out in it, and return when it has executed its program.

        ``cgroup`` is an open v2 cgroup to be born in.

        Raises:
            StartFailed: a step failed.
            SpawnerDied: the spawner ended meanwhile.
        """
        running = self.begin(self.encode(plan), flags=flags, stdio=stdio, cgroup=cgroup)
        running.await_started()
        return running

    def begin(
        self,
        plan: EncodedPlan,
        *,
        flags: int,
        stdio: Stdio,
        cgroup: int | None = None,
        network: tuple[AttachmentFields, ...] = (),
        limits: int | None = None,
        detached: bool = False,
        supervision: Supervision | None = None,
        pid_namespace: tuple[int, int] | None = None,
        users: user_namespace.Setup | None = None,
        listing: str = "",
        execution: tuple[str, str] | None = None,
    ) -> Running:
        """Ask for what ``spawn`` does, and return at once: ``await_started`` of what is returned comes next.

        ``network`` makes the host's side of attachments meanwhile; ``limits`` is the reading end of a pipe that the
        child finds as ``spawner.LIMITS_NUMBER``; ``pid_namespace`` is a process (pid, start in ticks) in whose pid
        namespace it is born, where ``flags`` ask for none of its own; ``users`` is the set-up of its user namespace,
        which it awaits as ``spawner.USERS_NUMBER``. ``listing`` is the cgroup.procs file of what is to die with it.
        ``execution`` is a container's directory and an id: the container's events tell of its end with it.

        Raises:
            StartFailed: the plan is too long.
            SpawnerDied: the spawner ended meanwhile.
        """
        born = flags | (ns.CLONE_INTO_CGROUP if cgroup is not None else 0)
        fields, streams = (
            (None, ()) if supervision is None else (supervision.fields(), supervision.streams.descriptors())
        )
        message = (messages.SPAWN, born, plan, detached, network, fields, pid_namespace, users, listing, execution)
        given = tuple(number for number in (cgroup, limits) if number is not None)
        return self._request(message, (*_numbers(stdio), *given, *streams))

    def join(
        self,
        plan: Sequence[init_plan.InitOp],
        *,
        stdio: Stdio,
        pidfd: int,
        cgroup: int | None = None,
        detached: bool = False,
        execution: tuple[str, str] | None = None,
    ) -> Running:
        """Clone a process into the pid namespace of ``pidfd``, carry the plan out in it, and return as ``spawn`` does.

        The plan finds the pidfd as ``spawner.PIDFD_NUMBER``; ``execution`` is as at ``begin``. What it raises is said
        at ``spawn``.
        """
        flags = ns.CLONE_INTO_CGROUP if cgroup is not None else 0
        given = () if cgroup is None else (cgroup,)
        message = (messages.JOIN, flags, self.encode(plan), detached, execution)
        running = self._request(message, (*_numbers(stdio), pidfd, *given))
        running.await_started()
        return running

    def attach(self, container_id: str, streams: Streams) -> Running:
        """Connect further streams with a container that the shared spawner supervises.

        ``log_bytes`` of what is returned tells how long the log was before; its ``wait`` gives the container's exit.

        Raises:
            StartFailed: it does not run.
            SpawnerDied: whoever is asked ends before the answer, time after time.
        """
        deaths = 0
        while True:
            try:
                running = self._request((messages.ATTACH, container_id, streams.letters()), streams.descriptors())
                running.await_started()
            except SpawnerDied:  # the next one goes on with the container
                deaths += 1
                if deaths == _MOST_DEATHS:
                    raise
            else:
                return running

    def resize(self, container_id: str, *, rows: int, columns: int) -> None:
        """Tell a container's terminal its size in characters; one that does not run is no error.

        Raises:
            SpawnerDied: the spawner ended meanwhile.
        """
        self._request((messages.RESIZE, container_id, rows, columns), ()).close()

    def set_restart(self, container_id: str, *, restart: str, restarts_most: int) -> None:
        """Give a supervised container another restart policy; one that does not run is no error.

        Raises:
            StartFailed: it cannot be noted.
            SpawnerDied: the spawner ended meanwhile.
        """
        running = self._request((messages.RESTART, container_id, restart, restarts_most), ())
        with contextlib.suppress(SpawnerDied), contextlib.closing(running):
            try:
                running.await_started()  # the end of the pipe: it is done
            except StartFailed as error:
                if error.errno != _ESRCH:
                    raise

    def close(self) -> None:
        """Let the spawner go: it kills what is not detached, and ends when nothing is left; safe to call twice."""
        with self._lock:
            self._drop()

    def ensure(self) -> None:
        """Start the spawner if it is not there, so that the first container does not pay for it."""
        with self._lock:
            self._connected()

    def _request(self, message: wire.Message, descriptors: tuple[int, ...]) -> Running:
        read_end, write_end = os.pipe()
        try:
            channel = self._deliver(message, (write_end, *descriptors))
        except BaseException:
            os.close(read_end)
            raise
        finally:
            os.close(write_end)
        return Running(read_end, channel)

    def _deliver(self, message: wire.Message, descriptors: tuple[int, ...]) -> sockets.Socket:
        """Send a request, and return the connection that it was sent over."""
        try:
            with self._lock:
                return self._send(message, descriptors)
        except ConnectionError as error:
            raise _died() from error
        except OSError as error:
            if error.errno == _EMSGSIZE:
                raise StartFailed("execute", _E2BIG, "arguments and environment are too long", "") from None
            raise KernelError.of("reach", "the spawner", error) from error

    def _send(self, message: wire.Message, descriptors: tuple[int, ...]) -> sockets.Socket:
        channel = self._connected()
        try:
            wire.send(channel, message, descriptors)
        except (BrokenPipeError, ConnectionResetError):  # it died since the last request: a new one serves this
            refused = wire.refusal(channel)
            self._drop()
            if refused is not None:
                raise StartFailed(*refused) from None
            channel = self._connected()
            wire.send(channel, message, descriptors)
        return channel

    def _connected(self) -> sockets.Socket:
        if self._control is None:
            if self._shared is None:
                self._process, self._control = spawner_start.start_own()
            else:
                self._control = spawner_start.connect_shared(self._shared)
        return self._control

    def _drop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._process, 0)
            self._process = None


def _numbers(stdio: Stdio) -> tuple[int, int, int]:
    return (stdio.stdin, stdio.stdout, stdio.stderr)
