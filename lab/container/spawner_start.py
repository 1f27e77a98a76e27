"""Starting spawners: one of an engine's own, or the one that all commands on a root share, found or started.

run/spawner.sock      where the shared one listens
run/spawner.version   which code it runs, and its pid: one of another version is replaced
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import sys
from collections.abc import Iterator

import lab
from lab.container import spawner, wire
from lab.linux import mount, sockets
from lab.paths import Paths

_BACKLOG = 128
_CONTROL_NUMBER = 3


def start_own() -> tuple[int, sockets.Socket]:
    """Start a spawner that serves one engine, and return its pid and the connection to it."""
    ours, theirs = sockets.pair(sockets.SOCK_SEQPACKET)
    with theirs:
        return _launch(f"main({_CONTROL_NUMBER})", theirs.fileno(), stderr=2), ours


def connect_shared(paths: Paths) -> sockets.Socket:
    """Return a connection to the shared spawner of a root, which is started if there is none.

    One that was started by another version of the lab is replaced: what it looks after goes on with its successor.

    Raises:
        OSError: the run directory cannot be used.
    """
    os.makedirs(paths.run, mode=0o700, exist_ok=True)
    found = _connect_to_same(paths.run)
    if found is not None:
        return found
    lock = os.open(os.path.join(paths.run, wire.LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = _connect_to_same(paths.run)  # another command was faster
        if found is None:
            _end_other(paths.run)
            _start_shared(paths)
            found = _connect(paths.run)
        return found
    finally:
        os.close(lock)


def _connect_to_same(directory: str) -> sockets.Socket | None:
    """Return a connection to a spawner that runs our own version, None if there is none."""
    try:
        channel = _connect(directory)
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    if _read_identity(directory)[0] == _version():
        return channel
    channel.close()
    return None


def _version() -> str:
    """Return what tells our code from another version's: its number, and when the spawner's file was written."""
    return f"{lab.__version__}-{os.stat(spawner.__file__).st_mtime_ns}"


def _read_identity(directory: str) -> tuple[str, int]:
    try:
        with open(os.path.join(directory, wire.IDENTITY_NAME), encoding="ascii") as file:
            version, pid = file.read().split()
    except (FileNotFoundError, ValueError):
        return "", 0
    return version, int(pid)


def _end_other(directory: str) -> None:
    """Kill a spawner of another version, so that a new one can go on; none is no error."""
    pid = _read_identity(directory)[1]
    try:
        descriptor = os.pidfd_open(pid)
    except (ProcessLookupError, OSError):
        return
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"main_shared" not in file.read():
                return  # the number is another's by now
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        ended.poll()
    except (FileNotFoundError, ProcessLookupError):
        return
    finally:
        os.close(descriptor)


def has_shared(paths: Paths) -> bool:
    """Return whether a root has a shared spawner now; none is started."""
    try:
        _connect(paths.run).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def have_it_look(paths: Paths) -> None:
    """Have a root's shared spawner see what has come without it, a name server; where there is none, nobody needs one.

    It looks whenever somebody leaves it.
    """
    has_shared(paths)


def _connect(directory: str) -> sockets.Socket:
    channel = sockets.Socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET)
    try:
        with _short_path(directory) as short:
            channel.connect(f"{short}/{wire.SOCKET_NAME}")
    except OSError:
        channel.close()
        raise
    return channel


@contextlib.contextmanager
def _short_path(directory: str) -> Iterator[str]:
    """Give a short name of a directory: a socket's path ends at 107 bytes."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def _start_shared(paths: Paths) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(paths.run, wire.SOCKET_NAME))  # of one that was killed
    with sockets.Socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET) as listener:
        with _short_path(paths.run) as short:
            listener.bind(f"{short}/{wire.SOCKET_NAME}")
        listener.listen(_BACKLOG)
        log = os.open(
            os.path.join(paths.run, "spawner.log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
        )
        try:
            pid = _launch(
                f"main_shared({_CONTROL_NUMBER}, {(paths.root, paths.cache, paths.run)!r})", listener.fileno(), log
            )
        finally:
            os.close(log)
    path = os.path.join(paths.run, wire.IDENTITY_NAME)
    with open(path + ".new", "w", encoding="ascii") as file:
        file.write(f"{_version()} {pid}")
    os.replace(path + ".new", path)


def _launch(call: str, descriptor: int, stderr: int) -> int:
    """Start a spawner in a session of its own, with a socket as descriptor ``_CONTROL_NUMBER``; return its pid."""
    actions = [
        (os.POSIX_SPAWN_DUP2, descriptor, _CONTROL_NUMBER),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_DUP2, stderr, 2),
    ]
    with _read_only(sys.executable) as program:
        # what our caller ignores (nohup, a script's background job) no container should ignore
        signals = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        return os.posix_spawn(program, _argv(call), {}, file_actions=actions, setsid=True, setsigdef=signals)


@contextlib.contextmanager
def _read_only(program: str) -> Iterator[str]:
    """Give a path that runs ``program`` from a mount of its own which nobody can write to.

    Until its exec a child of the spawner has our interpreter as its /proc/PID/exe, and an image may ask for that very
    file to be executed: by neither way can a container come to write to the host's file (CVE-2019-5736). Who may not
    mount runs it as it is: as that user's container could not write to it either, unless it is the user's own.
    """
    flags = mount.OPEN_TREE_CLONE | mount.OPEN_TREE_CLOEXEC
    try:
        cloned = mount.open_tree(mount.AT_FDCWD, program, flags)
    except OSError:
        yield program
        return
    try:
        mount.mount_setattr(cloned, "", mount.AT_EMPTY_PATH, mount.MOUNT_ATTR_RDONLY, 0, mount.MS_PRIVATE)
        kept = fcntl.fcntl(cloned, fcntl.F_DUPFD_CLOEXEC, _CONTROL_NUMBER + 1)  # not where the streams will be
    finally:
        os.close(cloned)
    try:
        yield f"/proc/self/fd/{kept}"
    finally:
        os.close(kept)


def _argv(call: str) -> tuple[str, ...]:
    # -I -S: nothing of the user's environment or site-packages; our own package by its directory only.
    root = os.path.dirname(os.path.dirname(os.path.abspath(lab.__file__)))
    program = (
        f"import sys; sys.path.insert(0, {root!r}); from lab.container import spawner_process; spawner_process.{call}"
    )
    # -OO: docstrings would be a third of its own memory; who cannot keep what that compiles is quicker without it.
    lean = ("-OO",) if os.access(os.path.dirname(spawner.__file__), os.W_OK) else ()
    return (sys.executable, "-I", "-S", *lean, "-c", program)
