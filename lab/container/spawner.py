"""The small, single-threaded process that makes containers' first processes, and the programs executed beside them.

It is started as a bare interpreter and imports little more than ctypes: a fork of it is cheap, and there are no
threads to be torn apart by it. It receives plans and descriptors, clones, stamps CLOCK_MONOTONIC where things happen,
and tells each requester what became of its process.

An engine's *own* spawner kills what it started when its engine goes away, unless that is detached; when it dies
itself, the kernel does (PR_SET_PDEATHSIG). A root's *shared* spawner serves every command that works on that root; it
supervises the containers that outlive their command (``supervision.py``), goes on with those that an earlier one has
left, and ends when nobody has needed it for a while.
"""

from __future__ import annotations

import marshal
import os
import time

from lab.container import events, host_side, init, machine, messages, slumber, supervision, wire
from lab.container.child import Child, give_up, kill, parse_frames, reap
from lab.container.follow_up import FollowUps
from lab.container.loop import Loop
from lab.container.numbered import Numbered
from lab.container.spare import Spare
from lab.container.streams import Peek
from lab.container.supervision import Supervised
from lab.linux import namespaces as ns
from lab.linux import pidfd, sockets
from lab.linux.pidfd import start_time_ticks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from lab.container import user_namespace
    from lab.container.network.model import AttachmentFields

    SupervisionFields = tuple[str, bool, str, supervision.Policy, str]

PIDFD_NUMBER = 199
"""The descriptor under which the child of a JOIN finds the container's pidfd; init_plan counts binds from 200."""
GO_NUMBER = 198
"""The descriptor on which a child with an attachment waits."""
USERS_NUMBER = 196
"""The descriptor over which a child with a user namespace gets what ``user_namespace.prepare`` sends."""
LIMITS_NUMBER = 197
"""The descriptor on which a child waits for its limits; its engine has the other end."""

_LEFTOVERS_NS = 1_000_000_000
_IDLE_NS = 30_000_000_000
_RETRY_NS = 500_000_000  # between attempts of what the host has no room for now


class Spawner:
    """All requests of one engine, or of all engines on one root."""

    def __init__(self, paths: tuple[str, ...] = ()) -> None:
        """Serve nobody yet; ``paths`` are root, cache and run directory of the root that a shared one serves."""
        self._paths = paths
        self._loop = Loop()
        self._peek = Peek()
        self._buffer = bytearray(wire.PACKET_BYTES)
        self._spare = Spare()
        self._engines: dict[int, sockets.Socket] = {}
        self._children: dict[int, Child] = {}  # by pidfd
        self._machines: dict[str, machine.Start] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._follow_ups = FollowUps(self._loop, paths)
        self._listener = -1
        self._woken = slumber.woken() if paths else None
        self._has_resting_program = self._woken is not None

    def serve(self, engine: sockets.Socket) -> None:
        """Serve one more engine, until it goes away."""
        self._engines[engine.fileno()] = engine
        self._loop.watch(engine.fileno(), lambda _: self._on_request(engine))

    def listen(self, listener: sockets.Socket) -> None:
        """Serve all engines that come; one for whom no descriptor is left is told so."""
        self._listener = listener.fileno()
        self._loop.watch(self._listener, lambda _: self._accept(listener))

    def _accept(self, listener: sockets.Socket) -> None:
        try:
            with self._spare:
                engine = sockets.accept(listener)
        except BlockingIOError:  # it has gone again
            return
        except OSError:  # the whole host has no more of something: it waits in the queue
            self._loop.forget(listener.fileno())
            self._loop.later(_RETRY_NS, lambda: self.listen(listener))
            return
        if self._spare.is_there:
            self.serve(engine)
            return
        with engine:
            wire.refuse(engine)
        self._spare.take()

    @property
    def is_needed(self) -> bool:
        """Whether an engine is there, or a process that was started."""
        return bool(self._engines or self._children or self._follow_ups.are_due)

    def step(self, longest_ns: int = -1) -> bool:
        """Wait for the next thing to do, and do it; return whether it came before ``longest_ns`` had passed."""
        return self._loop.step(longest_ns)

    def rest(self, again: str) -> None:
        """Let a small program wait in this one's place, if there is one, and if nothing would be lost by it.

        ``again`` is the argument that tells who wakes up that this spawner is not new.
        """
        program = os.path.join(self._paths[2], slumber.PROGRAM_LINK)
        if not self._only_waits:
            return
        if not self._has_resting_program:
            self._has_resting_program = True
            self._follow_ups.run("", "make-slumber")
        elif os.path.exists(program):
            held = {each.id: each.ports.descriptors for each in self._supervised_children()}
            others = (each for each in self._loop.descriptors if each != self._listener)
            slumber.begin(program, self._listener, others, held, again)

    @property
    def _only_waits(self) -> bool:
        if self._engines or self._follow_ups.are_due or self._loop.has_timers:
            return False
        return bool(self._children) and all(child.is_only_kept for child in self._children.values())

    def _supervised_children(self) -> Iterator[Supervised]:
        return (child.supervised for child in self._children.values() if child.supervised is not None)

    def stays_idle(self) -> bool:
        """Wait a while for somebody to need this spawner; return whether nobody did."""
        until_ns = time.monotonic_ns() + _IDLE_NS
        self._loop.later(_IDLE_NS, lambda: None)
        while not self.is_needed and time.monotonic_ns() < until_ns:
            self._loop.step()
        return not self.is_needed

    def _on_request(self, engine: sockets.Socket) -> None:
        try:
            with self._spare:
                received = wire.receive(engine, self._buffer)
        except ConnectionResetError:
            received = None
        if received is None:
            self._engine_is_gone(engine)
            return
        message, descriptors = received
        if message is None or not self._spare.is_there:
            self._refuse(engine, descriptors)
            return
        kind, *arguments = message
        try:
            _REQUESTS[kind](self, engine.fileno(), descriptors, *arguments)
        except OSError as error:
            _fail(descriptors[0], kind, error)
            _close(descriptors)

    def _refuse(self, engine: sockets.Socket, descriptors: tuple[int, ...]) -> None:
        """Refuse a request for which no descriptors are left; that of its answer has come, by the spare's place."""
        if descriptors:
            wire.answer(descriptors[0], (messages.FAILED, *wire.FULL))
            _close(descriptors)
        else:  # only if the limit has just been lowered
            wire.refuse(engine)
            self._engine_is_gone(engine)
        self._spare.take()

    def _engine_is_gone(self, engine: sockets.Socket) -> None:
        number = engine.fileno()
        self._loop.forget(number)
        del self._engines[number]
        engine.close()
        for child in self._children.values():
            if child.engine == number and not child.detached:
                kill(child)
        self._follow_ups.look_at_name_servers()  # it may have been a command that has made one

    def _spawn(
        self,
        engine: int,
        descriptors: tuple[int, ...],
        flags: int,
        plan: bytes,
        detached: bool,
        network: tuple[AttachmentFields, ...],
        fields: SupervisionFields | None,
        pid_namespace: tuple[int, int] | None,
        users: user_namespace.Setup | None,
        listing: str,
        execution: tuple[str, str] | None,
    ) -> None:
        reply, *rest = descriptors
        streams = fields[2] if fields else ""
        stdio, others, given = tuple(rest[:3]), rest[3 : len(rest) - len(streams)], rest[len(rest) - len(streams) :]
        cgroup = others.pop(0) if flags & ns.CLONE_INTO_CGROUP else -1
        numbers = Numbered()
        supervised, go = None, -1
        try:
            if others:
                numbers.put(others.pop(), LIMITS_NUMBER)
            if network:
                go = numbers.pipe(GO_NUMBER)
            mapping = numbers.channel(USERS_NUMBER) if users is not None else None
            if fields is not None:
                supervised = self._supervise(fields, given)
            if pid_namespace is not None:
                self._enter_pid_namespace(*pid_namespace)
            child = self._clone(flags, cgroup, plan, stdio, reply, engine=engine, detached=detached)
        except OSError:
            if supervised is not None:
                supervised.failed()
            _close((go,) if go >= 0 else ())
            raise
        finally:
            numbers.close()  # only the child's copies are left: it will see other ends close
            if pid_namespace is not None:
                self._leave_pid_namespace()
        child.listing, child.execution = listing, execution
        if users is not None and mapping is not None:
            host_side.map_users(child, users, mapping, stdio)
        if supervised is not None and fields is not None:
            _begin(child, supervised)
        if network:
            host_side.connect(child, network, go)
        _close((*rest, *((go,) if network else ())))

    def _supervise(self, fields: SupervisionFields, given: list[int]) -> Supervised:
        bundle, has_terminal, streams, policy, keeper = fields
        supervised = self._supervised(bundle, policy, has_terminal=has_terminal, keeper=keeper)
        try:
            supervised.take(streams, given)
        except OSError:
            supervised.failed()
            raise
        return supervised

    def _supervised(
        self, bundle: str, policy: supervision.Policy, *, has_terminal: bool, keeper: str = ""
    ) -> Supervised:
        def pack() -> None:
            self._follow_ups.run(os.path.basename(bundle), "pack-log")

        return Supervised(self._loop, bundle, policy, self._peek, has_terminal=has_terminal, keeper=keeper, pack=pack)

    def _join(
        self,
        engine: int,
        descriptors: tuple[int, ...],
        flags: int,
        plan: bytes,
        detached: bool,
        execution: tuple[str, str] | None,
    ) -> None:
        reply, *rest = descriptors
        stdio, container, others = tuple(rest[:3]), rest[3], rest[4:]
        cgroup = others.pop(0) if flags & ns.CLONE_INTO_CGROUP else -1
        child = self._clone_inside(container, cgroup, plan, stdio, reply, engine=engine, detached=detached)
        child.execution = execution
        _close(tuple(rest))

    def _clone_inside(
        self,
        container: int,
        cgroup: int,
        plan: bytes,
        stdio: tuple[int, ...],
        reply: int,
        *,
        engine: int,
        detached: bool,
    ) -> Child:
        flags = ns.CLONE_INTO_CGROUP if cgroup >= 0 else 0
        numbers = Numbered()
        try:
            numbers.put(container, PIDFD_NUMBER)
            ns.setns(container, ns.CLONE_NEWPID, path="the container's pid namespace")  # for children only
            return self._clone(flags, cgroup, plan, stdio, reply, engine=engine, detached=detached)
        finally:
            self._leave_pid_namespace()
            numbers.close()

    def _enter_pid_namespace(self, pid: int, started_ticks: int) -> None:
        """Have children born in the pid namespace of a process; the spawner itself stays where it is."""
        descriptor = pidfd.open_namespace(pid, started_ticks, "pid")
        try:
            ns.setns(descriptor, ns.CLONE_NEWPID, path=f"/proc/{pid}/ns/pid")
        finally:
            os.close(descriptor)

    def _leave_pid_namespace(self) -> None:
        ns.setns(self._own_pid_namespace, ns.CLONE_NEWPID, path="/proc/self/ns/pid")

    def _attach(self, _: int, descriptors: tuple[int, ...], container_id: str, streams: str) -> None:
        reply, *given = descriptors
        child = self._find(container_id)
        assert child.supervised is not None
        child.supervised.take(streams, given)  # which may fail: only then it is answered
        wire.answer(reply, (messages.ATTACHED, child.supervised.log_size_bytes))
        child.listeners.append(reply)
        _close(given)

    def _resize(self, _: int, descriptors: tuple[int, ...], container_id: str, rows: int, columns: int) -> None:
        supervised = self._find(container_id).supervised
        assert supervised is not None
        supervised.resize(rows, columns)
        _close(descriptors)

    def _set_restart(self, _: int, descriptors: tuple[int, ...], container_id: str, name: str, most: int) -> None:
        supervised = self._find(container_id).supervised
        assert supervised is not None
        supervised.set_restart(name, most)
        _close(descriptors)

    def _find(self, container_id: str) -> Child:
        for child in self._children.values():
            if child.supervised is not None and child.supervised.id == container_id:
                return child
        raise ProcessLookupError(3, "the container does not run", container_id)

    def _clone(
        self,
        flags: int,
        cgroup: int,
        encoded: bytes,
        stdio: tuple[int, ...],
        reply: int,
        *,
        engine: int,
        detached: bool,
    ) -> Child:
        library, program, table, steps = marshal.loads(encoded)
        status, write_end = os.pipe()
        try:
            if library:
                pid, pidfd = self._machine(library)(program, flags, cgroup, stdio, write_end)
            else:
                init.prepare()
                pid, pidfd = ns.clone3(flags, cgroup)
                if pid == 0:
                    init.run(steps, stdio, write_end)
            child = Child(pid, pidfd, status=status, reply=reply, engine=engine, detached=detached)
            child.table = table
        except OSError:
            os.close(status)
            raise
        finally:
            os.close(write_end)
        self._loop.watch(status, lambda _: self._on_status(child))
        self._watch(child)
        return child

    def _machine(self, library: str) -> machine.Start:
        if library not in self._machines:
            self._machines[library] = machine.load(library)
        return self._machines[library]

    def _watch(self, child: Child) -> None:
        self._children[child.pidfd] = child
        self._loop.watch(child.pidfd, lambda _: self._on_end(child))

    def _on_end(self, child: Child) -> None:
        while child.status >= 0:  # whatever it said before comes first
            self._on_status(child)
        if self._children.get(child.pidfd) is child:  # else a failed one: already reaped and answered
            self._on_exit(child)

    def _on_status(self, child: Child) -> None:
        data = os.read(child.status, 65536)
        now_ns = time.monotonic_ns()
        if data:
            child.frames += data
            return
        self._loop.forget(child.status)
        os.close(child.status)
        child.status = -1
        marks, failure = parse_frames(child.frames, child.table)
        if failure is not None or not marks or marks[-1][0] != init.EXECUTING:
            self._on_failure(child, failure)
            return
        if child.supervised is not None:
            try:
                child.supervised.take_console()
            except OSError as error:
                kill(child)
                self._on_failure(child, ("take_terminal", error.errno or 0, error.strerror or str(error), ""))
                return
        wire.answer(child.reply, (messages.STARTED, child.pid, child.spawned_ns, now_ns, tuple(marks[:-1])))
        if child.supervised is not None:
            child.supervised.actor.note_networks("connect")
            child.supervised.actor.note("start")
            self._follow_ups.look_at_name_servers()
            child.supervised.keep_console(child.pidfd)
            self._check_health(child, child.supervised, adopted=False)

    def _on_failure(self, child: Child, failure: wire.Message | None) -> None:
        code = reap(child)
        if failure is None:
            failure = ("init", 0, f"ended with code {code} before it could execute the program", "")
        supervised = child.supervised
        if supervised is not None:
            supervised.failed()
        is_seen = self._finish(child, (messages.FAILED, *failure))
        if supervised is not None and supervised.removes and not is_seen:
            self._follow_ups.run(supervised.id, "remove")

    def _on_exit(self, child: Child) -> None:
        if child.listing:  # the kernel ends only what is in a pid namespace whose first process it was
            pidfd.kill_listed(child.listing, time.monotonic_ns() + _LEFTOVERS_NS)
        code, now_ns = reap(child), time.monotonic_ns()
        supervised = child.supervised
        if supervised is None:
            if child.execution is not None:
                events.note_end_of_execution(*child.execution, code)
            self._finish(child, (messages.EXITED, code, now_ns))
            return
        if child.monitor is not None:
            child.monitor.stop()
        ran_ns = now_ns - child.spawned_ns
        restarts = supervised.ended(code, lambda: self._follow_ups.restart(supervised.id, ran_ns))
        witness = child.reply if supervised.removes else -1
        is_seen = self._finish(child, (messages.EXITED, code, now_ns), kept=witness)
        if restarts:
            return
        self._follow_ups.settle(supervised.id)
        if is_seen and witness >= 0:
            self._follow_ups.await_removal(supervised.id, witness)
        elif supervised.removes:
            self._follow_ups.run(supervised.id, "remove")
            _close((witness,) if witness >= 0 else ())
        elif os.path.exists(os.path.join(self._follow_ups.bundle(supervised.id), supervision.UNMOUNT_FILE)):
            self._follow_ups.run(supervised.id, "unmount")

    def _check_health(self, child: Child, supervised: Supervised, *, adopted: bool) -> None:
        bundle = self._follow_ups.bundle(supervised.id)
        if not os.path.exists(os.path.join(bundle, supervision.CHECK_FILE)) or child.pidfd not in self._children:
            return
        from lab.container import health  # whose pages only those containers pay for that are checked

        try:
            check, left = health.read_check(bundle), supervision.read_pid_file(bundle)
            known = health.read(bundle) if adopted else None
        except OSError:  # no descriptor is left now
            self._loop.later(_RETRY_NS, lambda: self._check_health(child, supervised, adopted=adopted))
            return
        if check is None or left is None:
            return

        def launch(plan: bytes, cgroup: str, output: int, answers: int) -> None:
            self._launch_check(child, plan, cgroup, output, answers)

        def tell(status: str) -> None:
            supervised.actor.note(f"health_status: {status}")
            if status == health.UNHEALTHY:
                self._on_unhealthy(child, supervised, check.on_failure)

        child.monitor = health.Monitor(self._loop, bundle, check, started_ns=left.started_ns, launch=launch, tell=tell)
        child.monitor.begin(known)

    def _launch_check(self, child: Child, plan: bytes, cgroup: str, output: int, answers: int) -> None:
        opened = [os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)]
        reply = os.dup(answers)
        try:
            if cgroup:
                opened.append(os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stdio = (opened[0], output, output)
            inside = opened[1] if cgroup else -1
            self._clone_inside(child.pidfd, inside, plan, stdio, reply, engine=-1, detached=True)
        except OSError:
            os.close(reply)
            raise
        finally:
            _close(opened)

    def _on_unhealthy(self, child: Child, supervised: Supervised, action: str) -> None:
        if action == "kill":
            kill(child)
        elif action in ("restart", "stop"):
            self._follow_ups.run(supervised.id, f"{action}-unhealthy")

    def adopt(self) -> None:
        """Go on with the containers that an earlier spawner of this root has left when it died."""
        directory = os.path.join(self._paths[0], "containers")
        for name in os.listdir(directory) if os.path.isdir(directory) else ():
            self._go_on(name)
        if self._woken is not None:
            self._woken.close()
        self._follow_ups.look_at_name_servers()

    def _go_on(self, name: str) -> None:
        bundle = self._follow_ups.bundle(name)
        try:
            left, ended = supervision.read_pid_file(bundle), supervision.read_exit_file(bundle)
            if left is not None and ended is None:
                self._adopt(bundle, left)
        except OSError:  # no descriptor is left now
            self._loop.later(_RETRY_NS, lambda: self._go_on(name))
            return
        if left is None or ended is None:
            return
        if ended.next_restart:
            self._follow_ups.run(name, "restart")
        elif left.policy[3]:
            self._follow_ups.run(name, "remove")

    def _adopt(self, bundle: str, left: supervision.Left) -> None:
        try:
            process = os.pidfd_open(left.pid)
        except ProcessLookupError:
            process = -1
        lives = process >= 0 and _is_same(left)
        try:
            supervised = self._supervised(bundle, left.policy, has_terminal=left.has_terminal)
        except OSError:
            _close((process,) if process >= 0 else ())
            raise
        try:
            if lives:
                supervised.recover_console()
        except OSError:
            supervised.failed()
            _close((process,))
            raise
        supervised.go_on(left)
        if lives:
            child = Child(left.pid, process, status=-1, reply=-1, engine=-1, detached=True)
            child.supervised = supervised
            self._watch(child)
            self._hold_ports(supervised)
            self._check_health(child, supervised, adopted=True)
            return
        _close((process,) if process >= 0 else ())
        restarts = supervised.ended(supervision.LOST_CODE, lambda: self._follow_ups.restart(supervised.id, 0))
        if supervised.removes and not restarts:
            self._follow_ups.run(supervised.id, "remove")

    def _hold_ports(self, supervised: Supervised) -> None:
        held = None if self._woken is None else self._woken.take_held(supervised.id)
        if held is None:
            supervised.ports.regain()
        for descriptor in held or ():
            supervised.ports.hold(descriptor)

    def _finish(self, child: Child, message: wire.Message, *, kept: int = -1) -> bool:
        """Tell all who wait, let the child go, and return whether somebody was told; a pipe that is ``kept`` stays."""
        is_seen = False
        for reply in (child.reply, *child.listeners):
            if reply >= 0:
                is_seen = wire.answer(reply, message) or is_seen
                _close((reply,) if reply != kept else ())
        self._loop.forget(child.pidfd)
        del self._children[child.pidfd]
        os.close(child.pidfd)
        return is_seen


_REQUESTS: dict[str, Callable[..., None]] = {
    messages.SPAWN: Spawner._spawn,
    messages.JOIN: Spawner._join,
    messages.ATTACH: Spawner._attach,
    messages.RESIZE: Spawner._resize,
    messages.RESTART: Spawner._set_restart,
}


def _is_same(left: supervision.Left) -> bool:
    try:
        return start_time_ticks(left.pid) == left.started_ticks
    except ProcessLookupError:
        return False


def _begin(child: Child, supervised: Supervised) -> None:
    child.supervised = supervised
    try:
        supervised.began(child.pid)
    except OSError as error:  # a full disk: what nobody would know of must not run
        give_up(child, "note_the_start", error)


def _fail(reply: int, kind: object, error: OSError) -> None:
    path = str(error.filename or "")
    wire.answer(reply, (messages.FAILED, str(kind), error.errno or 0, error.strerror or str(error), path))


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
