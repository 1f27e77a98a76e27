"""The console script: hand a command to the command server of its root where one stands ready, else carry it out here.

Importing Python modules is most of the time that a short command takes. A *command server* (``command_server.py``) has
imported them, and forks a worker that carries the command out in this process's place: with its streams, working
directory, environment, umask and signals. What a worker cannot take over must be the same already, or the command is
carried out here, as it is where no server answers; then one is started for the next. So this module imports next to
nothing: neither the rest of the command line, nor ``socket``, ``signal`` or ``re``.
"""

import _socket
import marshal
import os
import sys

from lab.paths import Paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn

    # Any: what a disposition may be is typed in a module that is not imported here
    Dispositions = dict[int, Callable[[int, Any], Any] | int | None]
else:
    import _signal

SWITCH = "LAB_COMMAND_SERVER"
"""The variable that switches the server off, where it is "off"."""
READY, ENDED, DECLINED = b"r", b"e", b"d"
"""What a server says: it waits for a command; the command has ended (then its status follows); it fits no worker."""
LOCK_NAME, LOG_NAME = "commands.lock", "commands.log"
LOCK_NUMBER = 3
"""The descriptor under which a server gets the lock that is held until it listens."""
EXIT_SERVER_DIED = 125
STATUS_BYTES = 4

_HERE = frozenset(("bench", "doctor", "report", "setup"))
"""Nouns that measure, or that work for minutes: always carried out here."""
_HARMLESS = frozenset(("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONUNBUFFERED"))
"""Variables of the interpreter that a worker does not need, or obeys by itself."""
_SHAPES_PROCESS = ("PYTHON", "LD_", "GLIBC_TUNABLES", "MALLOC_")
_OTHER_DESCRIPTORS = ("/fd/", "/proc/self")
_ASKS_ON_TERMINAL = ("://", "git@")
_LIKE_OURS = (
    "Uid:", "Gid:", "Groups:", "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", "NoNewPrivs:", "Seccomp:",
    "Cpus_allowed:", "Mems_allowed:",
)  # fmt: skip
_LIKE_OURS_FILES = ("cgroup", "limits", "oom_score_adj", "attr/current", "personality")
_READY_TIMEOUT_S, _READY_LOOKS = 1.0, 20
_PEER = 12  # bytes of struct ucred: pid, uid, gid
_SIGINT, _SIGQUIT, _SIGKILL, _SIGSTOP, _SIGCONT, _SIGTSTP = 2, 3, 9, 19, 18, 20
_KERNELS_OWN = frozenset((4, 5, 7, 8, _SIGKILL, 11, 13, 17, _SIGCONT, _SIGSTOP, _SIGTSTP, 21, 22, 23, 31))
PASSED_ON = tuple(number for number in (*range(1, 32), 34, 64) if number not in _KERNELS_OWN)
"""Signals that are handed to the worker; what is left out tells of a process itself, or is a matter of job control."""
GROUP_SIGNALS = frozenset((_SIGINT, _SIGQUIT, _SIGTSTP, _SIGCONT))
"""Those that a terminal sends to a whole process group."""


def entry() -> "NoReturn":
    """Console script: carry ``sys.argv`` out, by a server where that is possible, and exit."""
    paths = _fitting(sys.argv[1:], os.environ)
    if paths is not None:
        identity = likeness()
        status = _served(paths.run, identity, sys.argv[1:])
        if status is not None:
            _leave(status)
        _start(paths, socket_name(identity))
    from lab.cli import main

    main.entry()


def _fitting(argv: "Sequence[str]", environ: "Mapping[str, str]") -> Paths | None:
    """Return the root whose server may carry a command out, None if it is to be carried out here."""
    root, noun, rest = head(argv)
    if not noun or noun in _HERE or environ.get(SWITCH) == "off":
        return None
    if any(name.startswith(_SHAPES_PROCESS) and name not in _HARMLESS for name in environ):
        return None
    if sys.warnoptions or sys._xoptions or not _has_usual_streams() or _is_background():
        return None
    if any(part in word for word in rest for part in _OTHER_DESCRIPTORS):
        return None
    if "build" in (noun, *rest[:1]) and any(part in word for word in rest for part in _ASKS_ON_TERMINAL):
        return None  # git and ssh ask for passwords on the terminal that controls their session
    return Paths.under(root) if root else Paths.default(environ)


def head(argv: "Sequence[str]") -> tuple[str, str, "Sequence[str]"]:
    """Return the root that a command line names ("" for none), its noun, and what follows; no noun: it has others."""
    words, root = list(argv), ""
    while words and (words[0] == "--root" or words[0].startswith("--root=")):
        _, equals, root = words.pop(0).partition("=")
        if not equals:
            root = words.pop(0) if words else ""
        if not root:
            return "", "", ()
    if not words or words[0].startswith("-"):
        return "", "", ()
    return root, words[0], words[1:]


def _has_usual_streams() -> bool:
    streams = (sys.stdin, sys.stdout, sys.stderr)
    return all(stream is not None and stream.encoding == "utf-8" for stream in streams)


def _is_background() -> bool:
    """Return whether this is a terminal's background job, which the kernel stops when it reads, but not a worker."""
    try:
        return os.tcgetpgrp(0) != os.getpgrp()
    except OSError:  # no terminal, or not the one of our session
        return False


def likeness() -> bytes:
    """Return what a worker must have in common with its command, since it cannot take it over."""
    found: list[object] = [sys.executable, sys.version, os.path.dirname(__file__), os.getpriority(os.PRIO_PROCESS, 0)]
    found += [os.readlink(f"/proc/self/ns/{name}") for name in sorted(os.listdir("/proc/self/ns"))]
    top = os.stat("/")
    found += [top.st_dev, top.st_ino, os.sched_getscheduler(0)]
    found += [line for line in _read("status").splitlines() if line.startswith(_LIKE_OURS)]
    return marshal.dumps([*found, *map(_read, _LIKE_OURS_FILES)])


def _read(name: str) -> str:
    """Return a file of this process in /proc, "" if this kernel has none or nobody may read it."""
    try:
        descriptor = os.open(f"/proc/self/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, 65536).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def socket_name(identity: bytes) -> str:
    """Return the name of the socket at which the server for commands of this likeness listens."""
    return f"commands-{int.from_bytes(identity, 'little') % (2**61 - 1):015x}.sock"  # hash() differs in each process


def _served(run: str, identity: bytes, argv: "Sequence[str]") -> int | None:
    """Let a server carry a command out and return its wait status; None if none stands ready, and nothing was done."""
    try:
        channel = _connect(run, socket_name(identity))
    except OSError:
        return None
    if channel is None:
        return None
    blocked, dispositions = _pass_on_signals(channel)
    status = None
    if _send_request(channel, identity, argv, blocked):
        _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)
        status = _await_end(channel)
    if status is None:
        _restore_signals(blocked, dispositions)
    channel.close()
    return status


def _restore_signals(blocked: "set[int]", dispositions: "Dispositions") -> None:
    for number, disposition in dispositions.items():
        _signal.signal(number, disposition)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)


def _connect(run: str, name: str) -> _socket.socket | None:
    """Return a connection to a server of our own user that stands ready, None if what answers is none."""
    directory = os.open(run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    channel = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)  # closed when it is let go
    try:
        channel.settimeout(_READY_TIMEOUT_S)
        channel.connect(f"/proc/self/fd/{directory}/{name}")  # a socket's path ends at 107 bytes
        pid, uid = peer(channel)
        if uid != os.geteuid() or not _becomes_ready(channel, pid):
            return None
    finally:
        os.close(directory)
    channel.settimeout(None)
    return channel


def peer(channel: _socket.socket) -> tuple[int, int]:
    """Return pid and user of the process at the other end of a unix socket, or of who made it listen there."""
    credentials = channel.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _PEER)
    return int.from_bytes(credentials[:4], sys.byteorder), int.from_bytes(credentials[4:8], sys.byteorder)


def _becomes_ready(channel: _socket.socket, pid: int) -> bool:
    """Wait for a server to take us, longer if it is busy; one that is stopped must not hold anybody up."""
    for _ in range(_READY_LOOKS):
        try:
            return channel.recv(1) == READY
        except TimeoutError:
            if "State:\tT" in _read(f"../{pid}/status"):
                return False
    return False


def _pass_on_signals(channel: _socket.socket) -> "tuple[set[int], Dispositions]":
    """Hand signals to the server from now on; they are blocked until it has got the command that they are meant for.

    Return the signal mask before, and the dispositions before.
    """

    def pass_on(number: int, _: object) -> None:
        _tell(channel, number)

    def stop(number: int, _: object) -> None:
        _tell(channel, number)
        _signal.signal(number, _signal.SIG_DFL)
        os.kill(os.getpid(), number)  # here we stand, until the shell lets us go on
        _signal.signal(number, stop)
        _tell(channel, _SIGCONT)

    before = set(map(int, _signal.pthread_sigmask(_signal.SIG_BLOCK, (*PASSED_ON, _SIGTSTP))))
    kept: Dispositions = {}
    for number in (*PASSED_ON, _SIGTSTP):
        disposition = _signal.getsignal(number)
        if disposition not in (_signal.SIG_IGN, None):
            kept[number] = disposition
            _signal.signal(number, stop if number == _SIGTSTP else pass_on)
    return before, kept


def _tell(channel: _socket.socket, number: int) -> None:
    try:
        channel.send(bytes((number,)), _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
    except OSError:  # the server has gone: who waits for its answer sees it as well
        return


def _send_request(channel: _socket.socket, identity: bytes, argv: "Sequence[str]", blocked: set[int]) -> bool:
    """Send the command with its surroundings; return False if it cannot be sent: the server has not begun then."""
    status = dict(line.partition(":")[::2] for line in _read("status").splitlines())
    mask, ignored = int(status["Umask"], 8), int(status["SigIgn"], 16)
    request = (identity, list(argv), dict(os.environb), mask, ignored, sorted(blocked), sys.stdout.errors)
    try:
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        numbers = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2, here))
        channel.sendmsg([marshal.dumps(request)], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, numbers)])
    except OSError:  # EMSGSIZE: an environment too big for a packet; EPIPE: the server has gone
        return False
    finally:
        os.close(here)
    return True


def _await_end(channel: _socket.socket) -> int | None:
    try:
        answer = channel.recv(1 + STATUS_BYTES)
    except ConnectionResetError:
        answer = b""
    if answer[:1] == DECLINED:
        return None
    if answer[:1] == ENDED:
        return int.from_bytes(answer[1:], sys.byteorder)
    os.write(2, b"lab: the command server has ended, and this command with it\n     try: the same command again\n")
    return EXIT_SERVER_DIED << 8


def _leave(status: int) -> "NoReturn":
    """End as the worker has ended: with its exit code, or by its signal."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        _signal.signal(-code, _signal.SIG_DFL) if -code != _SIGKILL else None
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)  # nothing is left to be flushed


def _start(paths: Paths, name: str) -> None:
    """Start a server for the commands to come, unless another command is just doing that; wait for nothing."""
    import fcntl  # not on the short way

    try:
        if not os.path.isdir(paths.root):
            return
        os.makedirs(paths.run, mode=0o700, exist_ok=True)
        lock = os.open(os.path.join(paths.run, LOCK_NAME), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:  # not ours to write to: the command will say what that means for it
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _launch(paths.run, name, lock)
    except OSError:
        return
    finally:
        os.close(lock)


def _launch(run: str, name: str, lock: int) -> None:
    log = os.path.join(run, LOG_NAME)
    actions = [
        (os.POSIX_SPAWN_DUP2, lock, LOCK_NUMBER),
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        (os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600),
    ]
    program = f"from lab.cli.command_server import main; main({run!r}, {name!r})"
    kept = {name: os.environ[name] for name in (*_HARMLESS, "HOME") if name in os.environ}
    every = set(_signal.valid_signals()) - {_SIGKILL, _SIGSTOP}
    os.posix_spawn(
        sys.executable,
        (sys.executable, "-P", "-c", program),
        kept,
        file_actions=actions,
        setsid=True,
        setsigdef=every,
        setsigmask=(),
    )
