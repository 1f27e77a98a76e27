"""The small, single-threaded process that makes containers' first processes, and the programs executed beside them.

It is started once per engine as a bare interpreter and imports little more than ctypes: a fork of it is cheap, and
there are no threads to be torn apart by it. It receives plans and descriptors, clones, stamps CLOCK_MONOTONIC where
things happen, and tells each requester what became of its process. When its engine goes away it kills what it
started, unless that is detached; when it dies itself, the kernel does (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import gc
import marshal
import os
import select
import socket
import sys
import time

from lab.container import init, wire
from lab.container.network import fastpath
from lab.linux import namespaces as ns
from lab.linux.pidfd import pidfd_send_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container.network.model import AttachmentFields

SPAWN = "spawn"
"""A request: (SPAWN, flags, marshalled plan, detached, attachment's fields or None); with reply pipe, stdin, stdout,
stderr, the v2 cgroup to be born in if flags have CLONE_INTO_CGROUP, and the pipe of ``LIMITS_NUMBER`` if it has one."""

JOIN = "join"
"""A request: (JOIN, flags, marshalled plan); with reply pipe, stdin, stdout, stderr, pidfd of the container's first
process, and the v2 cgroup as above."""

STARTED = "started"
"""An answer: (STARTED, pid, ns of clone, ns of exec, ((first letter of a mark's name, ns), ...)): the program runs."""
FAILED = "failed"  # (FAILED, step, errno, reason, path): it has not, and nothing is left of it
EXITED = "exited"  # (EXITED, exit code, ns)

PIDFD_NUMBER = 199
"""The descriptor under which the child of a JOIN finds the container's pidfd; init_plan counts binds from 200."""
GO_NUMBER = 198
"""The descriptor on which a child with an attachment waits."""
LIMITS_NUMBER = 197
"""The descriptor on which a child waits for its limits; its engine has the other end."""

_SIGKILL = 9


class _Child:
    """A process on its way to exec, or beyond."""

    __slots__ = ("detached", "frames", "pid", "pidfd", "reply", "spawned_ns", "status")

    def __init__(self, pid: int, pidfd: int, status: int, reply: int, *, detached: bool) -> None:
        self.spawned_ns = time.monotonic_ns()
        self.pid = pid
        self.pidfd = pidfd
        self.status = status  # -1 once the exec has happened or failed
        self.reply = reply
        self.detached = detached
        self.frames = bytearray()


class Spawner:
    """The event loop: one control socket, and per child a status pipe and a pidfd."""

    def __init__(self, control: socket.socket) -> None:
        """Take over the control socket; nothing is started yet."""
        self._control: socket.socket | None = control
        self._control_number = control.fileno()
        self._buffer = bytearray(wire.MAX_MESSAGE_BYTES)
        self._poll = select.epoll()
        self._poll.register(self._control_number, select.EPOLLIN)
        self._by_descriptor: dict[int, _Child] = {}
        self._own_pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)

    def run(self) -> None:
        """Serve until the engine is gone and no child is left."""
        while self._control is not None or self._by_descriptor:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._control_number:
                    self._on_request()
                elif descriptor in self._by_descriptor:
                    self._on_child(self._by_descriptor[descriptor], descriptor)

    def _on_request(self) -> None:
        assert self._control is not None
        try:
            received = wire.receive(self._control, self._buffer)
        except ConnectionResetError:
            received = None
        if received is None:
            self._engine_is_gone()
            return
        (kind, *arguments), descriptors = received
        try:
            (self._spawn if kind == SPAWN else self._join)(descriptors, *arguments)
        except OSError as error:
            _fail(descriptors[0], kind, error)
            _close(descriptors)

    def _engine_is_gone(self) -> None:
        self._poll.unregister(self._control_number)
        self._control = None
        for child in set(self._by_descriptor.values()):
            if not child.detached:
                _kill(child)

    def _spawn(
        self,
        descriptors: tuple[int, ...],
        flags: int,
        plan: bytes,
        detached: bool,
        network: AttachmentFields | None,
    ) -> None:
        reply, *rest = descriptors
        stdio, others = tuple(rest[:3]), rest[3:]
        cgroup = others.pop(0) if flags & ns.CLONE_INTO_CGROUP else -1
        if others:
            os.dup2(others[0], LIMITS_NUMBER, inheritable=False)
        go = _open_go_pipe() if network is not None else -1
        try:
            child = self._clone(flags, cgroup, marshal.loads(plan), stdio, reply, detached=detached)
            if network is not None:
                os.close(GO_NUMBER)  # only the child's copy is left: it will see the other end close
                _connect(child, network, go)
        finally:
            _close((go,) if network is not None else ())
            _close((LIMITS_NUMBER,) if others else ())
        _close(tuple(rest))

    def _join(self, descriptors: tuple[int, ...], flags: int, plan: bytes) -> None:
        reply, *rest = descriptors
        stdio, pidfd, cgroup = tuple(rest[:3]), rest[3], rest[4] if len(rest) > 4 else -1
        os.dup2(pidfd, PIDFD_NUMBER, inheritable=False)
        ns.setns(pidfd, ns.CLONE_NEWPID, path="the container's pid namespace")  # for children only
        try:
            self._clone(flags, cgroup, marshal.loads(plan), stdio, reply, detached=False)
        finally:
            ns.setns(self._own_pid_namespace, ns.CLONE_NEWPID, path="/proc/self/ns/pid")
            os.close(PIDFD_NUMBER)
        _close(tuple(rest))

    def _clone(
        self, flags: int, cgroup: int, plan: init.Plan, stdio: tuple[int, ...], reply: int, *, detached: bool
    ) -> _Child:
        status, write_end = os.pipe()
        try:
            pid, pidfd = ns.clone3(flags, cgroup)
            if pid == 0:
                init.run(plan, stdio, write_end)
            child = _Child(pid, pidfd, status, reply, detached=detached)
        except OSError:
            os.close(status)
            raise
        finally:
            os.close(write_end)
        self._by_descriptor[status] = self._by_descriptor[pidfd] = child
        self._poll.register(status, select.EPOLLIN)
        self._poll.register(pidfd, select.EPOLLIN)
        return child

    def _on_child(self, child: _Child, descriptor: int) -> None:
        if descriptor == child.status:
            self._on_status(child)
            return
        while child.status >= 0:  # it has ended: whatever it said before comes first
            self._on_status(child)
        self._on_exit(child)

    def _on_status(self, child: _Child) -> None:
        data = os.read(child.status, 65536)
        now_ns = time.monotonic_ns()
        if data:
            child.frames += data
            return
        self._forget(child.status)
        child.status = -1
        marks, failure = _parse_frames(child.frames)
        if failure is None and marks and marks[-1][0] == init.EXECUTING:
            wire.answer(child.reply, (STARTED, child.pid, child.spawned_ns, now_ns, tuple(marks[:-1])))
        else:
            self._on_failure(child, failure)

    def _on_failure(self, child: _Child, failure: wire.Message | None) -> None:
        code = _reap(child)
        if failure is None:
            failure = ("init", 0, f"ended with code {code} before it could execute the program", "")
        self._finish(child, (FAILED, *failure))

    def _on_exit(self, child: _Child) -> None:
        if child.pidfd in self._by_descriptor:  # else a failed one: already reaped and answered
            self._finish(child, (EXITED, _reap(child), time.monotonic_ns()))

    def _finish(self, child: _Child, message: wire.Message) -> None:
        wire.answer(child.reply, message)
        self._forget(child.pidfd)
        os.close(child.reply)

    def _forget(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        del self._by_descriptor[descriptor]
        os.close(descriptor)


def _reap(child: _Child) -> int:
    status = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED)
    assert status is not None
    return status.si_status if status.si_code == os.CLD_EXITED else 128 + status.si_status


def _parse_frames(frames: bytearray) -> tuple[list[tuple[bytes, int]], wire.Message | None]:
    marks: list[tuple[bytes, int]] = []
    offset = 0
    while offset + init.FRAME.size <= len(frames):
        kind, value = init.FRAME.unpack_from(frames, offset)
        offset += init.FRAME.size
        if kind == init.FAILED:
            return marks, marshal.loads(frames[offset : offset + value])
        marks.append((kind, value))
    return marks, None


def _open_go_pipe() -> int:
    read_end, write_end = os.pipe()
    os.dup2(read_end, GO_NUMBER, inheritable=False)
    os.close(read_end)
    return write_end


def _connect(child: _Child, network: AttachmentFields, go: int) -> None:
    # The child mounts its file systems meanwhile; it waits on the go pipe before it touches its own end.
    netns = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        fastpath.host_side(fastpath.PlainAttachment(network), netns)
        os.write(go, marshal.dumps(network))
    except OSError as error:
        _kill(child)
        child.frames += init.failure("connect_network", error)
    finally:
        os.close(netns)


def _kill(child: _Child) -> None:
    try:
        pidfd_send_signal(child.pidfd, _SIGKILL)
    except ProcessLookupError:
        return


def _fail(reply: int, kind: object, error: OSError) -> None:
    path = str(error.filename or "")
    wire.answer(reply, (FAILED, str(kind), error.errno or 0, error.strerror or str(error), path))


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def main(control_descriptor: int) -> None:
    """Serve the engine at the other end of an inherited socket; never called in a process with threads."""
    gc.disable()  # a collection would copy every page that it touches in each child
    gc.freeze()
    os.umask(0o022)  # not its user's: what a container's file system lacks is made for everybody to read
    try:
        Spawner(socket.socket(fileno=control_descriptor)).run()
    finally:
        sys.stderr.flush()
