"""The command server: a process that has imported the command line, and forks a worker for each command of a root.

It is no daemon that the lab needs: it holds no state, a command that does not find it works as well, and it ends by
itself, 30 seconds after the last command, or when its socket, its root or a file that it has loaded is replaced. It
serves commands of its own user only, and of one likeness: it has it from the command that has started it, and clients
(``command_client.c``) ask none that is not like them. It hands signals on, kills the worker of a command that was
killed, and tells how a worker has ended; when it dies, the kernel kills its workers.
"""

from __future__ import annotations

import gc
import importlib
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress

from lab.cli import command_worker, output
from lab.cli import main as command_line
from lab.container.record import ContainerRecord
from lab.container.spec import codec
from lab.container.spec.runtime import Spec
from lab.container.state import ContainerState
from lab.errors import EXIT_OK, EXIT_USAGE
from lab.linux import inotify, sockets

PROTOCOL = "1"
"""What server and client say to each other, as in ``command_client.c``; a client of another version starts none."""
READY, ENDED, DECLINED = b"r", b"e", b"d"
"""What a server says: it waits for a command; it has ended (then its status follows); it cannot be begun now."""
LOCK_NUMBER = 3
"""The descriptor under which a server gets the lock that is held until it listens."""

_PREPARED = (
    "concurrent.futures.thread", "encodings.ascii", "textwrap", "traceback",
    "lab.cli.attached_run", "lab.cli.build", "lab.cli.build_output", "lab.cli.build_request", "lab.cli.builder",
    "lab.cli.container", "lab.cli.container_create", "lab.cli.container_files", "lab.cli.container_inside",
    "lab.cli.container_life", "lab.cli.container_show", "lab.cli.container_show_inspect",
    "lab.cli.container_show_logs", "lab.cli.gotemplate", "lab.cli.image", "lab.cli.image_lists",
    "lab.cli.image_removal", "lab.cli.run_flags", "lab.cli.system", "lab.cli.template_values",
    "lab.container.host_limits", "lab.container.image.build", "lab.container.options.logs",
    "lab.container.storage.read_ahead", "lab.linux.cgroup.usage",
)  # fmt: skip
"""What commands import; a command that needs more imports it in its worker."""
_PREPARED_VERBS = (("container", ("run", "exec", "rm", "ls", "start", "stop")), ("builder", ("build",)))
_GROUP_SIGNALS = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGCONT))
"""Those that a terminal sends to a whole process group."""
_STATUS_BYTES = 4
_PEER_BYTES = 12  # of struct ucred: pid, uid, gid
_DESCRIPTORS_EACH, _DESCRIPTORS_OTHER = 2, 64  # of a command: its connection and its worker; while it is begun, more
_TICK_MS = 1000
_IDLE_TICKS = 30
_BACKLOG = 4096
_GONE = inotify.IN_DELETE | inotify.IN_MOVED_FROM | inotify.IN_DELETE_SELF | inotify.IN_MOVE_SELF
_CHANGED = _GONE | inotify.IN_MODIFY | inotify.IN_MOVED_TO | inotify.IN_CREATE


class Command:
    """One command: the connection of its client, and its worker once there is one."""

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self, channel: sockets.Socket) -> None:
        """Know a client that has not yet sent its command."""
        self.channel = channel
        self.pid = 0
        self.pidfd = -1

    def signal(self, number: int) -> None:
        """Hand on what the client got; to suspend a process is not its own choice here, since its session is ours."""
        number = signal.SIGSTOP if number == signal.SIGTSTP else number
        with suppress(OSError):  # the worker has ended, or this is no signal
            (os.killpg if number in _GROUP_SIGNALS or number == signal.SIGSTOP else os.kill)(self.pid, number)

    def kill(self) -> None:
        """Kill the worker, if there is one."""
        with suppress(ProcessLookupError):
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)


class Standby:
    """A worker that waits for a command, so that the next one need not wait for a fork."""

    __slots__ = ("channel", "pid", "pidfd")

    def __init__(self, pid: int, channel: sockets.Socket) -> None:
        """Know a process that reads from the other end of ``channel``."""
        self.pid = pid
        self.channel = channel
        self.pidfd = os.pidfd_open(pid)

    def give(self, data: bytes, descriptors: tuple[int, ...]) -> bool:
        """Give it a command; return False if it has ended."""
        with self.channel:
            try:
                sockets.send_descriptors(self.channel, data, descriptors)
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True


class CommandServer:
    """All commands of one likeness on one root."""

    def __init__(self, listener: sockets.Socket, path: str, code: dict[str, int]) -> None:
        """Serve nobody yet; ``path`` is where the listener's name is, ``code`` when files were loaded, or before."""
        self._listener = listener
        self._path = path
        self._inode = os.stat(path).st_ino
        self._code = code
        self._names = {os.path.basename(file) for file in (path, *self._code)} | {""}  # of a directory itself
        self._idle_ticks = 0
        self._most = (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _DESCRIPTORS_OTHER) // _DESCRIPTORS_EACH
        self._poll = select.poll()
        self._actions: dict[int, Callable[[], None]] = {}
        self._commands = 0
        self._standby: Standby | None = self._fork()
        self._watch = inotify.Watch()
        self._watch.add(os.path.dirname(path), _GONE)
        for directory in {os.path.dirname(file) for file in self._code}:
            with suppress(OSError):  # too many watches, or not in the file system: then the next tick sees it
                self._watch.add(directory, _CHANGED)
        self._on_readable(listener.fileno(), self._accept)
        self._on_readable(self._watch.fileno(), self._look_around)
        self._listens = True
        if _code_times() != code:  # changed before it was watched
            self._retire()

    def run(self) -> None:
        """Serve until nobody has come for a while, or this server is out of date, and all commands have ended."""
        while self._listens or self._commands:
            ready = self._poll.poll(_TICK_MS if self._listens else None)
            if not ready:
                self._tick()
            for descriptor, _ in ready:
                if descriptor in self._actions:  # not gone by what came before it
                    self._actions[descriptor]()

    def _tick(self) -> None:
        """Retire when nobody has come for long, or when code was changed without a word, as by another machine."""
        self._idle_ticks = 0 if self._commands else self._idle_ticks + 1
        if self._idle_ticks >= _IDLE_TICKS or _code_times() != self._code:
            self._retire()

    def _on_readable(self, descriptor: int, action: Callable[[], None]) -> None:
        self._actions[descriptor] = action
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        del self._actions[descriptor]
        self._poll.unregister(descriptor)

    def _accept(self) -> None:
        self._idle_ticks = 0
        self._look_around()
        with suppress(BlockingIOError, ConnectionAbortedError):
            if not self._listens:  # the next command gets a server with the new code
                return
            channel = sockets.accept(self._listener)
            if _user_of(channel) != os.geteuid() or self._commands >= self._most:
                channel.close()  # who is not greeted carries its command out by itself
            else:
                self._greet(channel)

    def _greet(self, channel: sockets.Socket) -> None:
        command = Command(channel)
        self._commands += 1
        self._on_readable(channel.fileno(), lambda: self._on_message(command))
        with suppress(BrokenPipeError, ConnectionResetError):  # then its end is to be read next
            channel.send(READY)

    def _on_message(self, command: Command) -> None:
        try:
            data, descriptors = sockets.receive_descriptors(
                command.channel, command_worker.REQUEST_BYTES, command_worker.DESCRIPTORS
            )
        except ConnectionResetError:
            data, descriptors = b"", ()
        if not data:
            self._abandon(command)
        elif command.pid:
            command.signal(data[0])
        else:
            self._begin(command, data, descriptors)

    def _begin(self, command: Command, data: bytes, descriptors: tuple[int, ...]) -> None:
        try:
            worker = self._take_standby()
            while not worker.give(data, descriptors):  # it was killed while it waited
                self._reap(worker)
                worker = self._fork()
        except OSError:  # no process, or no memory, to be had
            with suppress(OSError):  # the client's end is read next
                command.channel.send(DECLINED)
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        command.pid, command.pidfd = worker.pid, worker.pidfd
        self._on_readable(command.pidfd, lambda: self._end(command))

    def _take_standby(self) -> Standby:
        worker, self._standby = self._standby or self._fork(), None
        return worker

    def _fork(self) -> Standby:
        """Start a worker, which has nothing to do yet; it dies with this process."""
        parent = os.getpid()
        ours, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
        with theirs:
            pid = os.fork()
            if pid == 0:
                command_worker.work(parent, theirs)
            os.setpgid(pid, pid)  # here as well as there: a signal may come at once
            return Standby(pid, ours)

    def _reap(self, worker: Standby) -> None:
        os.waitpid(worker.pid, 0)
        os.close(worker.pidfd)

    def _end(self, command: Command) -> None:
        _, status = os.waitpid(command.pid, 0)
        self._forget(command.pidfd)
        os.close(command.pidfd)
        command.pid = 0
        _drain(command.channel)
        with suppress(OSError):  # it was killed, and nobody waits
            command.channel.send(ENDED + status.to_bytes(_STATUS_BYTES, sys.byteorder), sockets.MSG_DONTWAIT)
        self._drop(command)
        if self._standby is None and self._listens:
            with suppress(OSError):  # the next command tries again
                self._standby = self._fork()  # now, while the caller is busy with what comes next

    def _abandon(self, command: Command) -> None:
        """A client has gone: its worker ends as if it had been killed in its place."""
        if command.pid:
            command.kill()
            self._forget(command.channel.fileno())  # the worker's end comes by its pidfd
        else:
            self._drop(command)

    def _drop(self, command: Command) -> None:
        if command.channel.fileno() in self._actions:
            self._forget(command.channel.fileno())
        command.channel.close()
        self._commands -= 1

    def _look_around(self) -> None:
        """See whether what was changed is ours: the socket, or code that we have loaded."""
        changed = {change.name for change in self._watch.read()}
        if not self._listens or changed.isdisjoint(self._names):
            return
        if not self._owns_socket():
            self._stop_listening()
        elif _code_times() != self._code:
            self._retire()

    def _owns_socket(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False

    def _retire(self) -> None:
        if self._owns_socket():
            with suppress(FileNotFoundError):
                os.unlink(self._path)
        self._stop_listening()

    def _stop_listening(self) -> None:
        if self._listens:
            self._listens = False
            self._forget(self._listener.fileno())
            self._listener.close()  # who has just connected sees the end, and carries its command out by itself


def _drain(channel: sockets.Socket) -> None:
    """Take what was sent too late: a socket that is closed over unread data tells its peer of that, and not of more."""
    with suppress(OSError):
        channel.shutdown(sockets.SHUT_RD)
        while channel.recv(1, sockets.MSG_DONTWAIT):
            pass


def _user_of(channel: sockets.Socket) -> int:
    """Return the user of the process at the other end of a unix socket."""
    credentials = channel.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _PEER_BYTES)
    return int.from_bytes(credentials[4:8], sys.byteorder)


def _code_times() -> dict[str, int]:
    """Return when each file that this process has loaded was written; one that has gone counts as a change."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return {file: _time_ns(file) for file in files if file}


def _time_ns(file: str) -> int:
    try:
        return os.stat(file).st_mtime_ns
    except OSError:
        return 0


def prepare() -> None:
    """Import what commands need, and make the parsers of those that are called most."""
    for module in _PREPARED:
        importlib.import_module(module)
    for noun, names in _PREPARED_VERBS:
        for name in names:
            command_line.verb_parser(noun, name, prog=f"lab {name if name != 'ls' else 'ps'}")
    command_line.build_parser()
    for document in (ContainerRecord, ContainerState, Spec):
        codec.prepare(document)


def serve(run: str, name: str) -> None:
    """Serve the commands that connect to a socket in a root's run directory; ``LOCK_NUMBER`` is held until then."""
    os.chdir("/")
    os.umask(0o077)
    prepare()
    code = _code_times()
    gc.collect()
    gc.freeze()  # a collection in a worker would copy every page that it touches
    path = os.path.join(run, name)
    with suppress(FileNotFoundError):
        os.unlink(path)  # of one that was killed
    listener = sockets.Socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    directory = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    listener.bind(f"/proc/self/fd/{directory}/{name}")  # a socket's path ends at 107 bytes
    os.close(directory)
    listener.setblocking(False)
    listener.listen(_BACKLOG)
    server = CommandServer(listener, path, code)
    os.close(LOCK_NUMBER)
    server.run()


def main() -> int:
    """Be ``lab-command-server PROTOCOL RUN SOCKET``, which the console script starts; return the exit code."""
    protocol, *rest = sys.argv[1:] or ("",)
    if protocol == PROTOCOL and len(rest) == 2:
        serve(*rest)
        return EXIT_OK
    output.error("this is started by the console script of the same version", hint="lab ps")
    return EXIT_USAGE
