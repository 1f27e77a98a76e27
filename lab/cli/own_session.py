"""Go on in a process with a session of its own, so that a terminal's Ctrl-C reaches nobody but who decides about it.

A terminal sends SIGINT to every process of its foreground group: to the program that is just removing a container, and
to the daemon that serves it. What must be left clean cannot be left to them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from types import FrameType

from lab.cli import output
from lab.linux import prctl

_PASSED_ON = {signal.SIGINT: signal.SIGINT, signal.SIGTERM: signal.SIGTERM, signal.SIGHUP: signal.SIGTERM}


def go_on() -> int | None:
    """Return None in a child process, which goes on; in this one the child's exit code, when it has ended.

    The first signal that asks to end is passed on, and the child is asked to end if this process is killed. It must be
    called before there are threads, so before numpy is imported.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)  # until both sides know what to do with them
    child = os.fork()
    if child == 0:
        os.setsid()
        prctl.prctl(prctl.PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return None
    return _attend(child, mask)


def _attend(child: int, mask: set[int | signal.Signals]) -> int:
    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        _ignore()  # the child heeds one; another would only meet it on its way out
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, _PASSED_ON[signal.Signals(number)])

    for number in _PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _, status = os.waitpid(child, 0)
    _ignore()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        output.error(f"the measuring process was ended by {signal.Signals(-code).name}", hint="lab bench list runs")
    return code if code >= 0 else 128 - code


def _ignore() -> None:
    for number in _PASSED_ON:
        signal.signal(number, signal.SIG_IGN)
