"""Both ends of a port: the program that is the machine's first process, and the host's channel to it."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lab.testbed
from lab.errors import DomainError
from lab.linux import command
from lab.testbed.channel import Channel
from lab.vm.guest_agent import GuestCommand, encode_command, encode_frame

AGENT = Path(lab.testbed.__file__).with_name("inside") / "agent.py"
PROGRAM = (
    "import runpy, sys; agent = runpy.run_path(sys.argv[1]); agent['serve_for_ever']([agent['Port'](int(sys.argv[2]))])"
)
MANY_BYTES = 8 << 20


@pytest.fixture
def ends() -> Iterator[socket.socket]:
    """Give the host's end of a port that the agent serves in a process of its own."""
    host, inside = socket.socketpair()
    argv = (sys.executable, "-I", "-c", PROGRAM, str(AGENT), str(inside.fileno()))
    agent = command.spawn(argv, pass_fds=(inside.fileno(),), stderr=None)
    inside.close()
    with host:
        yield host
    agent.kill()
    agent.wait()


@pytest.fixture
def channel(ends: socket.socket) -> Channel:
    made = Channel(ends)
    made.greet()
    return made


def sh(script: str, **env: str) -> GuestCommand:
    return GuestCommand(argv=("sh", "-c", script), env=(("PATH", os.defpath), *env.items()), cwd="/tmp")


def run(channel: Channel, command: GuestCommand, stdin: int | None = None) -> tuple[int, bytes, bytes]:
    out, err = bytearray(), bytearray()
    exit_code = channel.run(command, stdin=stdin, out=out.extend, err=err.extend)
    return exit_code, bytes(out), bytes(err)


def test_a_command_has_its_exit_code_streams_environment_and_directory(channel: Channel) -> None:
    assert run(channel, sh('echo "$PWD $A"; echo err >&2; exit 3', A="b c")) == (3, b"/tmp b c\n", b"err\n")


def test_commands_follow_each_other_each_with_its_own_outcome(channel: Channel) -> None:
    assert [run(channel, sh(f"echo {number}; exit {number}"))[:2] for number in (1, 2, 3)] == [
        (1, b"1\n"), (2, b"2\n"), (3, b"3\n"),
    ]  # fmt: skip


def test_death_by_a_signal_is_told_as_a_shell_tells_it(channel: Channel) -> None:
    assert run(channel, sh("kill -KILL $$"))[0] == 137


def test_without_standard_input_a_reader_is_at_its_end(channel: Channel) -> None:
    assert run(channel, sh("cat; echo done")) == (0, b"done\n", b"")


def test_much_goes_both_ways_at_once(channel: Channel) -> None:
    sent = os.urandom(MANY_BYTES)
    with tempfile.TemporaryFile() as file:
        file.write(sent)
        file.seek(0)
        exit_code, out, _ = run(channel, sh("exec cat"), file.fileno())
    assert exit_code == 0
    assert out == sent


def test_a_program_that_does_not_read_its_input_ends_all_the_same(channel: Channel) -> None:
    with open("/dev/zero", "rb") as endless:
        assert run(channel, sh("exit 4"), endless.fileno())[0] == 4


def test_a_program_that_there_is_not_is_told_and_the_port_goes_on(channel: Channel) -> None:
    with pytest.raises(DomainError, match=r"cannot run no-such-program in the testbed: .*No such file"):
        channel.run(GuestCommand(argv=("no-such-program",), cwd="/"), stdin=None, out=bytes, err=bytes)
    assert run(channel, sh("exit 5"))[0] == 5


def test_a_child_that_stays_does_not_keep_the_command(channel: Channel) -> None:
    began = time.monotonic()
    assert run(channel, sh("sleep 30 & exit 6"))[0] == 6
    assert time.monotonic() - began < 20


def test_a_greeting_begins_anew_amid_a_request_and_ends_the_command(ends: socket.socket, channel: Channel) -> None:
    with tempfile.TemporaryDirectory() as directory:
        script = f"echo $$ >{directory}/new && mv {directory}/new {directory}/pid; exec sleep 60"
        ends.sendall(encode_frame(b"X", 0, encode_command(sh(script))))
        pid_file = Path(directory) / "pid"
        deadline = time.monotonic() + 20
        while not pid_file.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        ends.sendall(encode_frame(b"W", 0, b"x" * 100)[:50])  # as of a client that was killed
        channel.greet()
        assert run(channel, sh("exit 7"))[0] == 7
        deadline = time.monotonic() + 20
        while os.path.exists(f"/proc/{int(pid_file.read_text())}") and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not os.path.exists(f"/proc/{int(pid_file.read_text())}")
