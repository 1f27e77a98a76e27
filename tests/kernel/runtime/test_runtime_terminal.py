"""A process on a terminal of its container: handed over, resized, controlled."""

from __future__ import annotations

import os
import re
import select
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lab.container.console import Pair
from lab.container.spawner_client import Running
from lab.container.spec.runtime import ConsoleSize
from lab.linux import pty

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_DEADLINE_S = 60


class Terminal:
    """The master of a terminal, and all that it has shown."""

    def __init__(self, master: int) -> None:
        self.master = master
        self.shown = ""

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def await_text(self, pattern: str) -> str:
        """Return the match of ``pattern`` in what is shown from now on, which is then forgotten up to it."""
        deadline = time.monotonic() + _DEADLINE_S
        while (found := re.search(pattern, self.shown)) is None:
            assert self.read(deadline), f"no {pattern!r} in {self.shown!r}"
        self.shown = self.shown[found.end() :]
        return found[0]

    def read(self, deadline: float) -> bool:
        if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False  # EIO: nobody has the slave open any more
        self.shown += data.decode()
        return bool(data)


@pytest.fixture
def shell(containers: Containers) -> tuple[Terminal, Running, str]:
    """Return a shell on a terminal of 24 rows and 80 columns, its process, and its container's id."""
    size = ConsoleSize(height=24, width=80)
    container_id = containers.create("/bin/sh", terminal=True, console_size=size, env=("PS1=$ ",))
    with Pair() as pair:
        running = containers.engine.start(container_id, stdio=pair.stdio)
        terminal = Terminal(pair.receive())
    request_close.append(terminal.master)
    terminal.await_text(r"\$ ")
    return terminal, running, container_id


request_close: list[int] = []


@pytest.fixture(autouse=True)
def close_masters() -> object:
    yield
    while request_close:
        os.close(request_close.pop())


def test_a_shell_runs_on_the_containers_own_terminal(shell: tuple[Terminal, Running, str]) -> None:
    terminal, _, _ = shell
    terminal.type("/bin/busybox tty; ls -l /dev/console; echo $TERM\n")
    assert terminal.await_text(r"/dev/pts/\d+") == "/dev/pts/0"
    assert terminal.await_text(r"crw--w----.*136, +0.*/dev/console")
    assert terminal.await_text("xterm")


def test_a_terminal_has_the_size_that_it_is_given_and_hears_of_a_change(shell: tuple[Terminal, Running, str]) -> None:
    terminal, _, _ = shell
    terminal.type("/bin/busybox stty size\n")
    assert terminal.await_text(r"\d+ \d+\r\n").split() == ["24", "80"]
    terminal.type("sh -c \"trap 'echo changed; exit' WINCH; echo waits; while :; do sleep 0.1; done\"\n")
    terminal.await_text(r"\nwaits\r\n")
    pty.set_size(terminal.master, 50, 132)
    terminal.await_text(r"changed\r\n")
    terminal.type("/bin/busybox stty size\n")
    assert terminal.await_text(r"\d+ \d+\r\n").split() == ["50", "132"]


def test_an_interrupt_typed_reaches_what_runs_in_front(shell: tuple[Terminal, Running, str]) -> None:
    terminal, running, _ = shell
    terminal.type("sleep 1000000\n")
    terminal.await_text("sleep")
    while "sleep" not in _last_program(running.pid):
        assert terminal.master  # the shell has not forked it yet
    terminal.type("\x03")
    terminal.await_text(r"\^C\r\n\$ ")
    terminal.type("echo ended with $?\n")
    assert terminal.await_text(r"\nended with 130\r\n")


def _last_program(shell: int) -> str:
    with open(f"/proc/{shell}/task/{shell}/children", encoding="ascii") as file:
        children = file.read().split()
    try:
        with open(f"/proc/{children[-1]}/cmdline", encoding="ascii") as file:
            return file.read()
    except (IndexError, FileNotFoundError):
        return ""


def test_the_end_of_the_shell_is_the_end_of_the_terminal(shell: tuple[Terminal, Running, str]) -> None:
    terminal, running, _ = shell
    terminal.type("exit 3\n")
    assert running.wait(time.monotonic_ns() + _DEADLINE_S * 10**9) == 3
    while terminal.read(time.monotonic() + 1):
        pass
    with pytest.raises(OSError, match="Input/output error"):
        os.read(terminal.master, 1)


def test_another_user_owns_its_terminal(containers: Containers) -> None:
    container_id = containers.create("/bin/sh", "-c", "ls -ln /dev/pts/0 && echo x > /dev/tty", terminal=True, user="7")
    with Pair() as pair:
        running = containers.engine.start(container_id, stdio=pair.stdio)
        terminal = Terminal(pair.receive())
    request_close.append(terminal.master)
    assert terminal.await_text(r"crw--w---- +1 7 +5 ")
    assert terminal.await_text("x\r\n")
    assert running.wait(time.monotonic_ns() + _DEADLINE_S * 10**9) == 0


def test_a_program_executed_beside_has_a_terminal_of_its_own(
    containers: Containers, shell: tuple[Terminal, Running, str]
) -> None:
    first, _, container_id = shell
    process = containers.engine.process(container_id, ("/bin/busybox", "tty"))
    process = replace(process, terminal=True, console_size=ConsoleSize(height=10, width=20))
    with Pair() as pair:
        running = containers.engine.exec(container_id, process, stdio=pair.stdio)
        second = Terminal(pair.receive())
    request_close.append(second.master)
    assert second.await_text(r"/dev/pts/\d+") == "/dev/pts/1"
    assert pty.size(second.master) == (10, 20)
    assert running.wait(time.monotonic_ns() + _DEADLINE_S * 10**9) == 0
    running.close()
    assert pty.size(first.master) == (24, 80)
