"""The shared spawner when it may open no more files: what is asked of it fails with the reason, all else goes on."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.container import health
from lab.container.network import apply

from .conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_LIMIT = 216  # above the numbers that plans know, which have to stay free
_MOST_USED = 24  # no request of these tests takes more
REASONS = ("Too many open files", "as many files open as it may")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@contextmanager
def nearly_full(lab: Lab, left: int) -> Iterator[int]:
    """Have all but ``left`` of the spawner's descriptors taken by clients that ask for nothing, and give its pid."""
    (spawner,) = lab.spawners()
    _, hard = resource.prlimit(spawner, resource.RLIMIT_NOFILE)
    resource.prlimit(spawner, resource.RLIMIT_NOFILE, (_LIMIT, hard))
    clients: list[socket.socket] = []
    try:
        wait_until(lambda: _sockets(spawner) == 1)  # commands that have ended are gone, for the spawner as well
        while _free(spawner) > left:  # a container may end meanwhile, and give some back
            clients.append(_client(lab))
            wait_until(lambda: _sockets(spawner) == 1 + len(clients))
        yield spawner
    finally:
        resource.prlimit(spawner, resource.RLIMIT_NOFILE, (hard, hard))
        for client in clients:
            client.close()
        wait_until(lambda: _sockets(spawner) == 1)


def _client(lab: Lab) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(os.path.join(lab.paths.run, "spawner.sock"))
    return client


def _free(spawner: int) -> int:
    return _LIMIT - sum(int(name) < _LIMIT for name in os.listdir(f"/proc/{spawner}/fd"))


def _sockets(spawner: int) -> int:
    """Return how many sockets the spawner has: the one that listens, and one for each client."""
    found = 0
    for name in os.listdir(f"/proc/{spawner}/fd"):
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(f"/proc/{spawner}/fd/{name}").startswith("socket:")
    return found


def _cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _is_told_why(err: str) -> bool:
    return any(reason in err for reason in REASONS)


@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_a_start_for_which_no_descriptors_are_left_says_so_and_what_runs_goes_on(lab: Lab, terminal: bool) -> None:
    lab.ok("run", "-d", "--name", "there", "busybox", "sh", "-c", "while :; do echo on; sleep 0.1; done")
    flags = ("-t",) if terminal else ()
    told, lefts = 0, range(terminal, _MOST_USED, 2)
    for left in lefts:
        with nearly_full(lab, left) as spawner:
            outcome = lab("run", *flags, "busybox", "echo", "hello")
            assert (outcome.code == 0 and "hello" in outcome.out) or (
                outcome.code == 125 and _is_told_why(outcome.err)
            ), (left, outcome)
            told += outcome.code == 125
            assert lab.spawners() == [spawner]
            before = lab.log("there")
            wait_until(lambda before=before: lab.log("there") != before)
    assert 0 < told < len(lefts)
    assert "hello" in lab.ok("run", *flags, "busybox", "echo", "hello")
    assert len(lab.ids()) == 2 + len(lefts)  # those that could not be started are there, as docker has it


def test_one_who_cannot_be_heard_is_told_why_and_costs_nothing_meanwhile(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "there", "busybox", "sleep", "1000")
    with nearly_full(lab, 0) as spawner:
        before_s = _cpu_s(spawner)
        outcome = lab("exec", "there", "true")
        assert outcome.code != 0
        assert _is_told_why(outcome.err)
        assert "ulimit -Hn" in outcome.err
        time.sleep(1)  # in which one that tries again and again would use it up
        assert _cpu_s(spawner) - before_s < 0.5
    assert lab.ok("exec", "there", "echo", "inside") == "inside"


def test_a_network_for_which_no_descriptors_are_left_is_not_said_to_have_no_link(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "there", "busybox", "sleep", "1000")
    try:
        reasons = []
        for left in range(0, _MOST_USED, 3):
            with nearly_full(lab, left):
                outcome = lab("run", "--rm", "--network", "bridge", "busybox", "true")
                reasons.append(outcome.err)
                assert outcome.code == 0 or _is_told_why(outcome.err), (left, outcome)
        assert any("connect network" in reason for reason in reasons)
    finally:
        for name in lab.ids():
            lab("rm", "-f", name)
        apply.remove_idle_bridge(lab.paths)


def test_what_happens_by_itself_happens_once_there_are_descriptors_again(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "again", "--restart", "always", "busybox", "sh", "-c", "echo run; sleep 1")
    lab.ok("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1")
    check = ("--health-cmd", "true", "--health-interval", "100ms")
    lab.ok("run", "-d", "--name", "checked", *check, "busybox", "sleep", "1000")
    bundle = lab.get("checked").state.bundle

    def last_ns() -> int:
        found = health.read(bundle)
        return found.results[-1][0] if found is not None and found.results else 0

    with nearly_full(lab, 0) as spawner:
        runs = lab.log("again").count(b"run")
        time.sleep(2)  # in which both end, and each end gives some back
        assert lab.spawners() == [spawner]
        seen_ns = last_ns()
    assert (lab.spawners(), lab.get("checked").is_running) == ([spawner], True)
    wait_until(lambda: last_ns() > seen_ns)
    found = health.read(bundle)
    assert found is not None
    assert (found.status, found.failing_streak) == ("healthy", 0)
    wait_until(lambda: lab.log("again").count(b"run") > runs)
    wait_until(lambda: lab("inspect", "brief").code != 0)
