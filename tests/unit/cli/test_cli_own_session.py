"""Measuring in a session of its own: exit codes come back, and a signal reaches the child once, whoever sends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

# what the child does comes last
PROGRAM = """
import os, signal, sys
from lab.cli import own_session
code = own_session.go_on()
if code is not None:
    sys.exit(code)
"""
WAITS = """
both = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, both)
print("ready", os.getsid(0) == os.getpid(), flush=True)
print(int(signal.sigwait(both)), signal.sigtimedwait(both, 0.2), flush=True)
"""


@contextmanager
def running(child: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-c", PROGRAM + child]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        yield process


@pytest.mark.parametrize("code", [0, 3, 130])
def test_the_exit_code_is_the_childs(code: int) -> None:
    with running(f"sys.exit({code})") as process:
        assert process.wait() == code


def test_a_child_that_was_killed_is_told() -> None:
    with running("os.kill(os.getpid(), signal.SIGKILL)") as process:
        assert process.wait() == 128 + signal.SIGKILL
        assert process.stderr is not None
        assert "ended by SIGKILL" in process.stderr.read()


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGHUP, signal.SIGTERM)],
)
def test_what_a_terminal_sends_to_all_reaches_the_child_once(sent: signal.Signals, arrives: signal.Signals) -> None:
    with running(WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready True\n"
        for _ in range(3):
            os.killpg(process.pid, sent)
        assert process.stdout.readline() == f"{int(arrives)} None\n"
        assert process.wait() == 0


def test_the_child_is_asked_to_end_when_its_parent_is_killed() -> None:
    with running(WAITS) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
        assert process.stdout.readline() == f"{int(signal.SIGTERM)} None\n"
