"""Staying with a project: its output, Ctrl-C, its exit code; and commands that are killed in the middle."""

from __future__ import annotations

import signal
import subprocess

import pytest
from processes import wait_until

from .conftest import Stack

pytestmark = [pytest.mark.root, pytest.mark.needs("overlay"), pytest.mark.needs("dnsmasq"), pytest.mark.timeout(90)]

TWO = """
services:
  database: {image: busybox, stop_signal: SIGKILL, command: sh -c 'echo ready; exec sleep 1000'}
  web:
    image: busybox
    command: sh -c 'trap "echo bye; exit 0" TERM; echo up; echo failed >&2; while true; do sleep 0.1; done'
    depends_on: [database]
"""


def read_until(command: subprocess.Popen[bytes], line: bytes) -> list[bytes]:
    """Return the lines of a command's standard output, up to this one."""
    assert command.stdout is not None
    found: list[bytes] = []
    for each in command.stdout:
        found.append(each.rstrip(b"\n"))
        if found[-1] == line:
            return found
    raise AssertionError(f"it ended without {line!r}: {found}")


def test_the_output_has_names_and_ctrl_c_stops_in_order(stack: Stack) -> None:
    stack.write(TWO)
    command = stack.begin("up")
    assert b"database-1  | ready" in read_until(command, b"web-1       | up")
    command.send_signal(signal.SIGINT)
    out, err = command.communicate(timeout=30)
    assert command.returncode == 130
    lines = out.decode().splitlines()
    assert lines[0] == "Gracefully stopping... (press Ctrl+C again to force)"
    assert "web-1       | bye" in lines
    assert "web-1 exited with code 0" in lines
    assert b"web-1       | failed" in err.splitlines()
    stops = [line.strip() for line in err.decode().splitlines() if "Stopp" in line]
    assert stops == [
        f"Container shop-{name}-1  {word}" for name in ("web", "database") for word in ("Stopping", "Stopped")
    ]
    assert set(stack.statuses().values()) == {"exited"}


def test_the_exit_code_is_that_of_the_service_that_is_asked_for(stack: Stack) -> None:
    stack.write(TWO + "  tests: {image: busybox, command: sh -c 'exit 4', depends_on: [web]}\n")
    done = stack("up", "--exit-code-from", "tests")
    assert done.code == 4
    assert "tests-1 exited with code 4\nAborting on container exit...\n" in done.out
    assert "running" not in stack.statuses().values()


def test_the_next_up_puts_right_what_a_killed_one_has_left(stack: Stack) -> None:
    stack.write(TWO)
    for line in (" Container shop-database-1  Creating", " Container shop-web-1  Starting"):
        command = stack.begin("up", "-d")
        assert command.stderr is not None
        assert any(each.decode().rstrip("\n") == line for each in command.stderr)
        command.kill()
        command.communicate(timeout=30)
    stack.ok("up", "-d")
    assert stack.statuses() == {"shop-database-1": "running", "shop-web-1": "running"}
    recreation = stack.begin("up", "-d", "--force-recreate", "--no-deps", "web")
    assert recreation.stderr is not None
    assert any(b"Recreate" in each for each in recreation.stderr)
    wait_until(lambda: len(stack.ids()) == 3 or recreation.poll() is not None)
    recreation.kill()
    recreation.communicate(timeout=30)
    stack.ok("up", "-d")
    assert stack.statuses() == {"shop-database-1": "running", "shop-web-1": "running"}
