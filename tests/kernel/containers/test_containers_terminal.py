"""A container's terminal, as one sits before it: a real pseudo-terminal around the command."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.container.terminal_keeper import TERMINAL_FILE
from lab.linux import pty as lab_pty

from .conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

DETACH = b"\x10\x11"
INTERRUPT = b"\x03"
_DEADLINE_S = 30.0


class Screen:
    """A command on a terminal of its own: what it shows, what is typed."""

    def __init__(self, argv: tuple[str, ...], *, rows: int = 24, columns: int = 80) -> None:
        self._master, slave = pty.openpty()
        lab_pty.set_size(self._master, rows, columns)
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
        os.close(slave)
        os.set_blocking(self._master, False)
        self.shown = b""

    def type(self, data: bytes) -> None:
        os.write(self._master, data)

    def resize(self, rows: int, columns: int) -> None:
        lab_pty.set_size(self._master, rows, columns)
        self.process.send_signal(signal.SIGWINCH)  # it is nobody's controlling terminal here

    def until(self, text: bytes) -> None:
        """Return when this has been shown, since the last time."""
        deadline = time.monotonic() + _DEADLINE_S
        while text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            self._read()
        self.shown = self.shown.partition(text)[2]

    def end(self) -> int:
        """Return the exit code when the command has ended."""
        deadline = time.monotonic() + _DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.shown
            self._read()
        return self.process.returncode

    def _read(self) -> None:
        try:
            self.shown += os.read(self._master, 65536)
        except (BlockingIOError, OSError):  # EIO: nobody has the other side open
            time.sleep(0.01)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@contextmanager
def _screen(lab: Lab, *words: str) -> Iterator[Screen]:
    screen = Screen(lab.argv(*words))
    try:
        yield screen
    finally:
        screen.close()


def test_a_shell_on_a_terminal_knows_its_size_and_each_change_of_it(lab: Lab) -> None:
    with _screen(lab, "run", "--rm", "-it", "busybox", "sh") as screen:
        screen.until(b"# ")
        screen.type(b"stty size; tty\n")
        screen.until(b"24 80\r\n")
        screen.until(b"/dev/")
        screen.resize(33, 101)
        deadline = time.monotonic() + _DEADLINE_S
        while b"33 101\r\n" not in screen.shown:  # the new size travels on its own way
            assert time.monotonic() < deadline, screen.shown
            screen.type(b"stty size\n")
            screen.until(b"# ")
        screen.type(b"exit 5\n")
        assert screen.end() == 5


def test_an_interrupt_reaches_what_runs_in_the_foreground_and_nothing_else(lab: Lab) -> None:
    with _screen(lab, "run", "--rm", "-it", "busybox", "sh") as screen:
        screen.until(b"# ")
        screen.type(b"sleep 1000; echo code=$?\n")
        screen.until(b"code=$?")
        time.sleep(0.5)  # until sleep has the terminal
        screen.type(INTERRUPT)
        screen.until(b"# ")
        screen.type(b"echo still $((6 * 7))\n")
        screen.until(b"still 42")
        screen.type(b"exit\n")
        assert screen.end() in (0, 130)


def test_the_detach_keys_leave_it_running_and_an_attach_comes_back(lab: Lab) -> None:
    with _screen(lab, "run", "-it", "--name", "kept", "busybox", "sh") as screen:
        screen.until(b"# ")
        screen.type(b"x=remembered\n")
        screen.until(b"# ")
        screen.type(DETACH)
        assert screen.end() == 0
    assert lab.get("kept").is_running
    with _screen(lab, "attach", "--detach-keys", "ctrl-a,d", "kept") as screen:
        screen.type(b"echo it is $x\n")
        screen.until(b"it is remembered")
        screen.type(b"\x01d")
        assert screen.end() == 0
    with _screen(lab, "attach", "kept") as screen:
        screen.type(b"exit 8\n")
        assert screen.end() == 8
    assert b"it is remembered" in lab.log("kept")


def test_a_terminal_is_asked_for_where_there_is_none(lab: Lab) -> None:
    refused = lab("run", "--rm", "-it", "busybox", "sh")
    assert refused.code == 1
    assert "the input device is not a TTY" in refused.err


def test_a_terminal_without_input_shows_both_streams(lab: Lab) -> None:
    assert lab("run", "--rm", "-t", "busybox", "sh", "-c", "echo out; echo err >&2").out == "out\r\nerr\r\n"


def test_the_terminal_is_as_before_when_the_container_has_ended(lab: Lab) -> None:
    import termios

    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    done = subprocess.run(
        lab.argv("run", "--rm", "-it", "busybox", "true"), stdin=slave, stdout=slave, stderr=slave, check=False
    )
    assert done.returncode == 0
    assert termios.tcgetattr(slave) == before
    os.close(slave)
    os.close(master)


def test_a_container_with_a_terminal_that_nobody_sits_before_goes_on(lab: Lab) -> None:
    lab.ok("run", "-d", "-t", "--name", "alone", "busybox", "sh", "-c", "echo hello; sleep 0.2; tty; exit 3")
    assert lab.ok("wait", "alone") == "3"
    wait_until(lambda: lab.log("alone").startswith(b"hello\r\n/dev/"))


def test_a_terminal_outlives_the_spawner_and_who_sits_before_it_goes_on(lab: Lab) -> None:
    with _screen(lab, "run", "-it", "--name", "one", "busybox", "sh") as screen:
        screen.until(b"# ")
        for number in range(2):
            (spawner,) = lab.spawners()
            os.kill(spawner, signal.SIGKILL)
            wait_until(lambda before=spawner: lab.spawners() not in ([], [before]))
            screen.type(b"echo $((%d + 40))\r" % number)
            screen.until(b"\r\n%d\r\n" % (number + 40))
        screen.type(b"exit 7\r")
        assert screen.end() in (7, 255)  # which the kernel tells, or not
    assert lab.log("one").count(b"40\r") >= 1


def test_a_terminal_that_nobody_sits_before_outlives_the_spawner(lab: Lab) -> None:
    lab.ok("run", "-dit", "--name", "one", "busybox", "sh")
    (spawner,) = lab.spawners()
    os.kill(spawner, signal.SIGKILL)
    wait_until(lambda: not lab.spawners())
    with _screen(lab, "attach", "one") as screen:
        screen.type(b"echo $((20 + 22))\r")
        screen.until(b"\r\n42\r\n")
        screen.type(DETACH)
        assert screen.end() == 0
    pid, keeper = lab.get("one").state.pid, terminal_keeper_of(lab, "one")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{keeper}"))


def terminal_keeper_of(lab: Lab, name: str) -> int:
    with open(os.path.join(lab.get(name).state.bundle, TERMINAL_FILE), encoding="ascii") as file:
        return int(file.read().split()[0])
