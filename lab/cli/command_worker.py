"""The worker of a command server: takes a command's place, and carries it out as its own process would have.

What it takes over is what a program sees of its surroundings: arguments, environment, streams, working directory,
umask, and which signals are ignored or blocked. What it cannot take over is the same already: the client has compared
it. It is in a process group of its own, which stands for the command's.
"""

from __future__ import annotations

import _locale
import atexit
import io
import os
import select
import signal
import struct
import sys
import threading
import time
import types
from contextlib import suppress
from typing import NoReturn

from lab.cli import main
from lab.errors import EXIT_FAILURE
from lab.linux import prctl, sockets

REQUEST_BYTES = 1 << 18
DESCRIPTORS = 4
_FIRST_OTHER = 3
_DESCRIPTORS_MOST = 1 << 20
_HEAD = struct.Struct("=QQII")
_COERCED = "C.UTF-8"
_LENIENT_LOCALES = frozenset(("C", "POSIX", _COERCED, "C.utf8"))


class Request:
    """A command as its client sends it: ``request_head`` of ``command_client.c``, then words that end with NUL."""

    __slots__ = ("argv", "blocked", "environ", "ignored", "umask")

    def __init__(self, data: bytes) -> None:
        """Take a message apart; bit n-1 of ``ignored`` and ``blocked`` stands for signal n."""
        self.ignored, self.blocked, self.umask, arguments = _HEAD.unpack_from(data)
        words = data[_HEAD.size : -1].split(b"\0")
        self.argv = [os.fsdecode(word) for word in words[:arguments]]
        self.environ: dict[bytes, bytes] = {}
        for name, equals, value in (word.partition(b"=") for word in words[arguments:]):
            if name and equals:
                self.environ.setdefault(name, value)  # the first counts, as everywhere


def work(server: int, channel: sockets.Socket) -> NoReturn:
    """Be a worker of the process ``server``: wait for a command, carry it out, and exit with its code."""
    code = EXIT_FAILURE
    try:
        _settle(server, channel)
        _rehearse(channel)
        data, descriptors = sockets.receive_descriptors(channel, REQUEST_BYTES, DESCRIPTORS)
        if data:  # else the server has ended
            request = Request(data)
            _take_over(request, descriptors)
            code = main.outcome(request.argv)
            _finish()
    except KeyboardInterrupt:  # before the command line knew what to do with it: the interpreter ends by it, too
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        raise
    finally:
        os._exit(code)  # without taking apart what the server has built: that would copy all of its memory


def _settle(server: int, channel: sockets.Socket) -> None:
    """Die with the server, be a process group of one's own, and have no descriptor of another command."""
    os.setpgid(0, 0)
    prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server:
        os._exit(EXIT_FAILURE)
    os.closerange(_FIRST_OTHER, channel.fileno())
    os.closerange(channel.fileno() + 1, _DESCRIPTORS_MOST)


def _rehearse(channel: sockets.Socket) -> None:
    """Touch what commands touch, until one comes: a page that is the server's as well is copied when it is touched.

    To count a reference is to touch it. That leaves a command a tenth of its page faults, and half of its time.
    """
    waiting = select.poll()
    waiting.register(channel.fileno(), select.POLLIN)
    for module in tuple(sys.modules.values()):
        if waiting.poll(0):
            return
        for value in tuple(vars(module).values()):
            for each in tuple(vars(value).values()) if isinstance(value, type) else (value,):
                if isinstance(each, types.FunctionType):
                    tuple(each.__code__.co_consts)


def _finish() -> None:
    """Do what an interpreter does before it takes itself apart."""
    threading._shutdown()  # type: ignore[attr-defined]  # there is no public name for it
    atexit._run_exitfuncs()
    with suppress(BrokenPipeError):
        sys.stdout.flush()


def _take_over(request: Request, descriptors: tuple[int, ...]) -> None:
    *streams, here = descriptors
    for number, descriptor in enumerate(streams):
        os.dup2(descriptor, number)
    os.fchdir(here)
    os.closerange(_FIRST_OTHER, _DESCRIPTORS_MOST)
    os.umask(request.umask)
    os.environb.clear()
    os.environb.update(request.environ)
    time.tzset()
    sys.argv[:] = ["lab", *request.argv]
    _open_streams(_take_locale())
    _set_signals(request)


def _take_locale() -> str:
    """Do with the locale what an interpreter does when it starts; return how its streams treat what is no text."""
    try:
        locale = _locale.setlocale(_locale.LC_CTYPE, "")
    except _locale.Error:  # type: ignore[attr-defined]  # there is none of this name here
        locale = "C"
    if locale in ("C", "POSIX") and not os.environ.get("LC_ALL"):
        os.environ["LC_CTYPE"] = _COERCED  # for its children, too: PEP 538
        _locale.setlocale(_locale.LC_CTYPE, "")
    return "surrogateescape" if locale in _LENIENT_LOCALES else "strict"


def _open_streams(errors: str) -> None:
    is_unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    sys.stdin = sys.__stdin__ = _stream(0, "r", errors, is_unbuffered=False)  # type: ignore[misc]  # as at the start
    sys.stdout = sys.__stdout__ = _stream(1, "w", errors, is_unbuffered=is_unbuffered)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _stream(2, "w", "backslashreplace", is_unbuffered=is_unbuffered)  # type: ignore[misc]
    sys.stderr.reconfigure(line_buffering=True)


def _stream(number: int, mode: str, errors: str, *, is_unbuffered: bool) -> io.TextIOWrapper:
    if is_unbuffered:
        raw = io.FileIO(number, mode, closefd=False)
        return io.TextIOWrapper(raw, "utf-8", errors, write_through=True)
    stream = open(number, mode, encoding="utf-8", errors=errors, closefd=False)  # noqa: SIM115 - for as long as we live
    assert isinstance(stream, io.TextIOWrapper)
    return stream


def _set_signals(request: Request) -> None:
    for number in signal.valid_signals():
        if request.ignored >> (number - 1) & 1:
            signal.signal(number, signal.SIG_IGN)
    blocked = [number for number in signal.valid_signals() if request.blocked >> (number - 1) & 1]
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
