"""A machine's life by the commands that users type: terminal, signals, logs, being saved, being as it was."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.linux import command, pty

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg")]

COUNTING = ("sh", "-c", "trap 'echo asked; exit 4' TERM; i=0; while :; do echo $i; i=$((i+1)); sleep 0.2; done")
_DEADLINE_S = 60.0


def lab(*words: str, stdin: bytes = b"") -> command.Completed:
    return command.run((sys.executable, "-m", "lab", *words), stdin=stdin, timeout_s=_DEADLINE_S)


def done(*words: str) -> str:
    found = lab(*words)
    assert found.exit_code == 0, found.error_text
    return found.text


@pytest.fixture
def counting(image: str) -> Iterator[str]:
    """The name of a machine that counts."""
    name = f"lab-counting-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    done("vm", "run", "-d", "--network", "none", "--label", "for=test", "--name", name, image, *COUNTING)
    yield name
    lab("vm", "rm", "-f", name)


def last_number(name: str) -> int:
    return int(done("vm", "logs", "--tail", "1", name))


def awaited_number(name: str, more_than: int) -> int:
    deadline = time.monotonic() + _DEADLINE_S
    while (found := last_number(name)) <= more_than:
        assert time.monotonic() < deadline
    return found


def test_a_machine_is_seen_saved_kept_and_ended(counting: str) -> None:
    assert json.loads(done("vm", "ls", "--filter", f"name={counting}", "--format", "json"))["State"] == "running"
    assert done("vm", "inspect", "-f", "{{.Config.Labels.for}} {{.Hardware.Network}}", counting) == "test none"
    assert json.loads(done("vm", "stats", "--format", "json", counting))["CPUPerc"].endswith("%")

    before = awaited_number(counting, 0)
    done("vm", "save", counting)
    assert done("vm", "ls", "-a", "--filter", "status=saved", "--format", "{{.Names}}") == counting
    assert "is saved" in lab("vm", "start", counting).error_text
    done("vm", "restore", counting)
    assert awaited_number(counting, before) > before  # its memory is there: it did not begin anew
    assert done("vm", "exec", counting, "echo", "here") == "here"

    done("vm", "snapshot", "create", counting, "early")
    kept = last_number(counting)
    done("vm", "exec", counting, "touch", "/later")
    later = awaited_number(counting, kept + 2)
    assert done("vm", "snapshot", "ls", "--format", "{{.Name}} {{.State}}", counting) == "early running"
    done("vm", "snapshot", "revert", counting, "early")
    assert last_number(counting) <= later
    assert lab("vm", "exec", counting, "test", "-e", "/later").exit_code == 1
    done("vm", "snapshot", "rm", counting, "early")

    done("vm", "shutdown", counting)
    assert done("vm", "logs", "--tail", "1", counting) == "asked"
    state = json.loads(done("vm", "inspect", "-f", "{{json .State}}", counting))
    assert (state["Status"], state["ExitCode"], state["Error"]) == ("exited", 4, "")
    assert "is already in use" in lab("vm", "clone", counting, counting).error_text
    assert lab("vm", "clone", counting, f"{counting}-2").exit_code == 0
    done("vm", "rm", f"{counting}-2")


def test_a_terminal_has_keys_size_and_an_exit_code(image: str) -> None:
    ours, theirs = os.openpty()
    pty.set_size(theirs, 33, 101)
    name = f"lab-terminal-{os.getpid()}"
    words = ("vm", "run", "--rm", "-it", "--name", name, "--network", "none", image, "sh")
    process = command.spawn((sys.executable, "-m", "lab", *words), stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = Screen(ours)
    try:
        screen.await_text(rb"# (\x1b\[6n)?$")
        screen.type("stty size; test -t 2 && echo all $((1+1)) terminals; cat\n")
        screen.await_text(rb"33 101\r\nall 2 terminals")
        screen.type("heard\n")
        screen.await_text(rb"heard\r\nheard\r\n")  # cat is there: the first one is the terminal's
        screen.type("\x03")  # Ctrl-C ends the guest's cat, and not this command
        screen.await_text(rb"\^C\r\n.*# (\x1b\[6n)?$")
        pty.set_size(ours, 44, 90)
        process.send_signal(signal.SIGWINCH)
        screen.type("sleep 1; stty size; exit 6\n")
        screen.await_text(rb"44 90\r\n")
        assert process.wait(_DEADLINE_S) == 6
    finally:
        process.kill()
        process.wait(_DEADLINE_S)
        os.close(ours)
        lab("vm", "rm", "-f", name)  # it outlives this command, if that had to be killed


class Screen:
    """A terminal's other side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._seen = b""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def await_text(self, pattern: bytes) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not (found := re.search(pattern, self._seen, re.DOTALL)):
            assert time.monotonic() < deadline, self._seen
            if select.select([self._descriptor], [], [], 1)[0]:
                self._seen += os.read(self._descriptor, 65536)
        self._seen = self._seen[found.end() :]


def test_a_machine_answers_at_a_published_port_and_has_the_hosts_files(image: str, tmp_path: Path) -> None:
    name = f"lab-web-{os.getpid()}"
    page = tmp_path / "index.html"
    page.write_text("from the host\n")
    volume = ("-v", f"{tmp_path}:/www")
    done("vm", "run", "-d", "--rm", "--name", name, "-p", "80", *volume, image, "httpd", "-f", "-p", "80", "-h", "/www")
    try:
        port = json.loads(done("vm", "inspect", "-f", "{{json .Ports}}", name))[0]["Host"]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.read() == b"from the host\n"
        done("vm", "exec", name, "sh", "-c", "echo from the guest > /www/back")
        assert (tmp_path / "back").read_text() == "from the guest\n"
        assert "cannot be saved" in lab("vm", "save", name).error_text
        assert done("vm", "exec", name, "echo", "it goes on") == "it goes on"
    finally:
        lab("vm", "rm", "-f", name)
    assert done("vm", "ls", "-a", "--filter", f"name={name}", "-q") == ""


def test_a_kernel_has_an_initramfs_and_an_image_has_a_disk(image: str) -> None:
    (kernel, *_) = done("vm", "kernel", "ls", "--format", "{{.Version}} {{.Flavour}}").splitlines()
    assert kernel.endswith(("cloud", "generic"))
    assert Path(done("vm", "kernel", "build-initramfs")).stat().st_size > 100_000
    assert done("vm", "image", "build", image) == image
    rows = [json.loads(row) for row in done("vm", "image", "ls", "--no-trunc", "--format", "json").splitlines()]
    assert image in {row["Digest"] for row in rows}
