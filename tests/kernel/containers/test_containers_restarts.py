"""What happens to containers by itself: restart policies and health checks."""

from __future__ import annotations

import os
import signal

import pytest

from lab.container import health

from .conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

FAILS = ("busybox", "sh", "-c", "echo run; exit 3")


def test_a_container_is_started_again_as_often_as_its_policy_says(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "tries", "--restart", "on-failure:2", *FAILS)
    wait_until(lambda: lab.log("tries") == 3 * b"run\n" and lab.get("tries").status == "exited")
    container = lab.get("tries")
    assert (container.exit_code, container.record.restarts) == (3, 2)
    lab.ok("start", "tries")
    assert lab.get("tries").record.restarts in (0, 1, 2)
    wait_until(lambda: lab.log("tries") == 6 * b"run\n" and lab.get("tries").status == "exited")


def test_success_is_no_failure_but_ends_a_service_too_early(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "done", "--restart", "on-failure", "busybox", "echo", "run")
    lab.ok("run", "-d", "--name", "service", "--restart", "always", "busybox", "echo", "run")
    wait_until(lambda: lab.log("service").count(b"run") > 1)
    assert lab.get("done").status == "exited"
    assert lab.log("done") == b"run\n"


@pytest.mark.parametrize("verb", ["stop", "kill", "rm"])
def test_what_waits_for_its_restart_can_be_stopped_and_removed(lab: Lab, verb: str) -> None:
    lab.ok("run", "-d", "--name", "loop", "--restart", "unless-stopped", *FAILS)
    wait_until(lambda: lab.log("loop").count(b"run") >= 4 and lab.get("loop").status == "restarting")
    assert "container is restarting" in lab("rm", "loop").err
    lab.ok(verb, *(("-f",) if verb == "rm" else ()), "loop")
    if verb == "rm":
        assert lab.ids() == []
    else:
        assert lab.get("loop").status == "exited"
        seen = lab.log("loop")
        lab.ok("start", "loop")
        wait_until(lambda: len(lab.log("loop")) > len(seen))  # a user's start is a new beginning


def test_a_policy_can_be_changed_while_it_runs(lab: Lab) -> None:
    lab.ok("run", "-d", "--init", "--name", "one", "--restart", "always", "busybox", "sleep", "1000")
    lab.ok("update", "--restart", "no", "one")
    os.kill(lab.get("one").state.pid, signal.SIGKILL)
    wait_until(lambda: lab.get("one").status == "exited")
    lab.ok("update", "--restart", "on-failure:1", "one")
    lab.ok("start", "one")
    before = lab.get("one").state.pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: lab.get("one").state.pid not in (0, before))  # which is 0 while it does not run
    assert lab.get("one").record.restarts == 1


def test_a_policy_and_removal_at_the_end_exclude_each_other(lab: Lab) -> None:
    assert lab("run", "--rm", "--restart", "always", "busybox", "true").code == 125
    lab.ok("run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "1000")
    assert "AutoRemove" in lab("update", "--restart", "always", "brief").err


def test_a_container_becomes_healthy_and_ill_and_healthy_again(lab: Lab) -> None:
    check = ("--health-cmd", "echo looked; test -e /well", "--health-interval", "100ms", "--health-retries", "2")
    lab.ok("run", "-d", "--name", "patient", *check, "busybox", "sleep", "1000")
    bundle = lab.get("patient").state.bundle

    def status() -> str:
        found = health.read(bundle)
        assert found is not None
        return found.status

    wait_until(lambda: status() == "unhealthy")
    found = health.read(bundle)
    assert found is not None
    assert found.failing_streak >= 2
    assert {(result[2], result[3]) for result in found.results} == {(1, b"looked\n")}
    lab.ok("exec", "patient", "touch", "/well")
    wait_until(lambda: status() == "healthy")
    lab.ok("exec", "patient", "rm", "/well")
    wait_until(lambda: status() == "unhealthy")
    assert len((health.read(bundle) or found).results) <= 5


def test_a_check_that_takes_too_long_has_failed_and_is_killed(lab: Lab) -> None:
    check = ("--health-cmd", "sleep 4321", "--health-interval", "100ms", "--health-timeout", "200ms")
    lab.ok("run", "-d", "--name", "slow", *check, "--health-retries", "1", "busybox", "sleep", "1000")
    bundle = lab.get("slow").state.bundle
    wait_until(lambda: (found := health.read(bundle)) is not None and found.status == "unhealthy")
    found = health.read(bundle)
    assert found is not None
    assert found.results[0][2] == -1
    assert b"exceeded timeout" in found.results[0][3]
    lab.ok("pause", "slow")  # so that no further one begins
    listed = lab("exec", "slow", "true").code
    assert listed == 1
    lab.ok("unpause", "slow")


def test_a_check_that_cannot_be_executed_says_why(lab: Lab) -> None:
    check = ("--health-cmd", "no-such-program", "--health-interval", "100ms", "--health-retries", "1")
    lab.ok("run", "-d", "--name", "wrong", *check, "busybox", "sleep", "1000")
    bundle = lab.get("wrong").state.bundle
    wait_until(lambda: (found := health.read(bundle)) is not None and found.status == "unhealthy")
    found = health.read(bundle)
    assert found is not None
    assert found.results[0][2] == 127
    assert b"not found" in found.results[0][3]


def test_the_checks_go_on_under_the_next_spawner(lab: Lab) -> None:
    check = ("--health-cmd", "true", "--health-interval", "100ms")
    lab.ok("run", "-d", "--name", "watched", *check, "busybox", "sleep", "1000")
    bundle = lab.get("watched").state.bundle
    wait_until(lambda: (found := health.read(bundle)) is not None and found.status == "healthy")
    (spawner,) = lab.spawners()
    os.kill(spawner, signal.SIGKILL)
    wait_until(lambda: not lab.spawners())
    known = health.read(bundle)
    assert known is not None
    lab.ok("exec", "watched", "true")
    wait_until(lambda: (found := health.read(bundle)) is not None and found.results[0][0] >= known.results[-1][0])


@pytest.mark.parametrize("action", ["kill", "restart", "stop"])
def test_an_unhealthy_container_is_dealt_with_as_asked(lab: Lab, action: str) -> None:
    check = ("--health-cmd", "false", "--health-interval", "300ms", "--health-retries", "1")
    flags = (*check, "--health-on-failure", action, "--stop-timeout", "0")
    lab.ok("run", "-d", "--name", "ill", *flags, "busybox", "sh", "-c", "echo up; sleep 1000")
    if action == "restart":
        wait_until(lambda: lab.log("ill").count(b"up") >= 2)
    else:
        wait_until(lambda: lab.get("ill").status == "exited")
        assert lab.get("ill").exit_code == 137
