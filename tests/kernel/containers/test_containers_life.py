"""Containers from their creation to their end, in docker's words: exit codes, names, stopping, freezing, removal."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lab.container.network import apply

from .conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("/there/is/none",), 127),
        (("none-such",), 127),
        (("/etc",), 126),
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137),
    ],
)
def test_a_run_passes_the_programs_exit_code_on(lab: Lab, command: tuple[str, ...], code: int) -> None:
    assert lab("run", "--rm", "busybox", *command).code == code
    assert lab.ids() == []


@pytest.mark.parametrize(
    "words",
    [
        ("run", "--rm", "no-such-image", "true"),
        ("run", "--no-such-flag", "busybox", "true"),
        ("run", "--restart", "sometimes", "busybox", "true"),
        ("run", "--name", "-wrong", "busybox", "true"),
        ("run", "--log-opt", "colour=red", "busybox", "true"),
    ],
)
def test_what_the_engine_cannot_do_ends_with_125_and_leaves_nothing(lab: Lab, words: tuple[str, ...]) -> None:
    outcome = lab(*words)
    assert outcome.code == 125
    assert outcome.err
    assert lab.ids() == []


@pytest.mark.parametrize(("name", "code"), [("INT", 130), ("TERM", 143), ("KILL", 137), ("USR1", 138)])
def test_a_program_that_a_signal_ends_gives_128_and_the_signal(lab: Lab, name: str, code: int) -> None:
    lab.ok("run", "-d", "--init", "--name", "sleeper", "busybox", "sleep", "1000")
    assert lab.ok("kill", "-s", name, "sleeper") == "sleeper"
    assert lab.ok("wait", "sleeper") == str(code)


def test_a_container_is_known_by_name_by_id_and_by_the_beginning_of_its_id(lab: Lab) -> None:
    container_id = lab.ok("run", "-d", "--name", "first", "busybox", "true")
    assert len(container_id) == 64
    for reference in ("first", container_id, container_id[:12], container_id[:4]):
        assert lab.ok("wait", reference) == "0"
    assert lab("wait", "none").code == 1
    assert "No such container: none" in lab("rm", "none").err


def test_no_two_containers_have_one_name(lab: Lab) -> None:
    lab.ok("create", "--name", "only", "busybox", "true")
    clash = lab("run", "--name", "only", "busybox", "true")
    assert clash.code == 125
    assert 'The container name "/only" is already in use' in clash.err
    other = lab.ok("create", "--name", "other", "busybox", "true")
    assert lab("rename", "other", "only").code == 1
    lab.ok("rename", "other", "another")
    assert lab.get("another").id == other
    lab.ok("rm", "only")
    lab.ok("rename", "another", "only")
    assert lab.get("only").id == other


def test_the_id_file_has_the_id_and_is_never_written_over(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "cid"
    container_id = lab.ok("run", "-d", "--cidfile", str(file), "busybox", "true")
    assert file.read_text() == container_id
    again = lab("run", "--rm", "--cidfile", str(file), "busybox", "true")
    assert again.code == 125
    assert "container ID file found" in again.err
    assert file.read_text() == container_id


def test_an_id_file_does_not_outlive_a_failed_creation(lab: Lab, tmp_path: Path) -> None:
    assert lab("run", "--cidfile", str(tmp_path / "cid"), "no-such-image").code == 125
    assert not (tmp_path / "cid").exists()


def test_a_created_container_runs_when_it_is_started_and_again_when_it_is_started_again(lab: Lab) -> None:
    lab.ok("create", "--name", "twice", "busybox", "sh", "-c", "echo x >> /count; wc -l < /count; exit 3")
    assert lab.get("twice").status == "created"
    first, second = lab("start", "-a", "twice"), lab("start", "-a", "twice")
    assert (first.out, first.code) == ("1\n", 3)
    assert (second.out, second.code) == ("2\n", 3)
    assert lab.get("twice").status == "exited"
    assert lab.log("twice") == b"1\n2\n"


def test_to_start_what_runs_is_done_already(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "on", "busybox", "sleep", "1000")
    process = lab.get("on").state.process
    assert lab.ok("start", "on") == "on"
    assert lab.get("on").state.process == process


def test_a_stop_asks_by_the_stop_signal_and_takes_the_answer(lab: Lab) -> None:
    script = "trap 'exit 5' TERM; trap 'exit 6' USR1; echo ready; while :; do sleep 0.1; done"
    for flags, code in ((), 5), (("--stop-signal", "USR1"), 6):
        lab.ok("run", "-d", "--name", "polite", *flags, "busybox", "sh", "-c", script)
        wait_until(lambda: lab.log("polite") == b"ready\n")
        lab.ok("stop", "polite")
        assert lab.get("polite").exit_code == code
        lab.ok("rm", "polite")


def test_a_stop_kills_who_does_not_answer_when_the_time_is_over(lab: Lab) -> None:
    lab.ok(
        "run", "-d", "--name", "deaf", "busybox", "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    )
    wait_until(lambda: lab.log("deaf") == b"ready\n")
    began = time.monotonic()
    lab.ok("stop", "-t", "1", "deaf")
    assert 1 <= time.monotonic() - began < 8
    assert lab.get("deaf").exit_code == 137
    lab.ok("start", "deaf")
    lab.ok("stop", "-t", "0", "deaf")
    assert lab.get("deaf").exit_code == 137
    assert lab.ok("stop", "deaf") == "deaf"


def test_a_restart_stops_and_starts(lab: Lab) -> None:
    lab.ok("run", "-d", "--init", "--name", "again", "busybox", "sh", "-c", "echo up; sleep 1000")
    wait_until(lambda: lab.log("again") == b"up\n")
    before = lab.get("again").state.process
    lab.ok("restart", "-t", "0", "again")
    wait_until(lambda: lab.log("again") == b"up\nup\n")
    assert lab.get("again").state.process != before


def test_a_frozen_container_stands_still_until_it_is_thawed_or_stopped(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "ice", "busybox", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
    wait_until(lambda: lab.log("ice"))
    lab.ok("pause", "ice")
    assert lab.get("ice").status == "paused"
    still = lab.log("ice")
    assert "is already paused" in lab("pause", "ice").err
    assert lab("exec", "ice", "true").code == 1
    assert lab.log("ice") == still
    lab.ok("unpause", "ice")
    wait_until(lambda: lab.log("ice") != still)
    assert "is not paused" in lab("unpause", "ice").err
    lab.ok("pause", "ice")
    lab.ok("stop", "-t", "1", "ice")
    assert lab.get("ice").status == "exited"
    assert "is not running" in lab("pause", "ice").err


def test_what_is_frozen_can_be_killed_and_removed(lab: Lab) -> None:
    for words in ("kill", "ice"), ("rm", "-f", "ice"):
        lab.ok("run", "-d", "--name", "ice", "busybox", "sleep", "1000")
        lab.ok("pause", "ice")
        lab.ok(*words)
        wait_until(lambda: lab("rm", "ice").code == 0 or lab.ids() == [])


def test_to_wait_for_several_tells_each_exit_code(lab: Lab) -> None:
    for code in (3, 4):
        lab.ok("run", "-d", "--name", f"ends-{code}", "busybox", "sh", "-c", f"sleep 0.{code}; exit {code}")
    assert lab.ok("wait", "ends-3", "ends-4").split() == ["3", "4"]


def test_a_removed_container_has_to_stand_still_unless_it_is_forced(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "busy", "busybox", "sleep", "1000")
    refused = lab("rm", "busy")
    assert refused.code == 1
    assert "stop the container before removing or force remove" in refused.err
    assert lab.ok("rm", "-f", "busy") == "busy"
    assert lab.ids() == []
    assert lab("rm", "-f", "busy").code == 0


def test_a_kill_of_what_does_not_run_is_refused(lab: Lab) -> None:
    lab.ok("create", "--name", "off", "busybox", "true")
    refused = lab("kill", "off")
    assert refused.code == 1
    assert "is not running" in refused.err
    assert lab("kill", "-s", "NONSENSE", "off").code != 0


def test_a_prune_removes_what_does_not_run(lab: Lab) -> None:
    off = [lab.ok("create", "busybox", "true"), lab.ok("run", "-d", "busybox", "true")]
    lab.ok("wait", off[1])
    on = lab.ok("run", "-d", "busybox", "sleep", "1000")
    told = lab.ok("container", "prune", "-f").split("\n")
    assert set(off) <= set(told)
    assert lab.ids() == [on]


def test_nobody_is_told_of_an_end_before_it_is_known_how_it_ended(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "one", "busybox", "sleep", "1000")
    (first,) = lab.spawners()
    os.kill(first, signal.SIGKILL)  # whose successor is not the process's parent, which makes an end known at once
    wait_until(lambda: not lab.spawners())
    lab.ok("exec", "one", "true")
    (spawner,) = lab.spawners()
    pid = lab.get("one").state.pid
    os.kill(spawner, signal.SIGSTOP)  # as one that has not come to it yet
    try:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"))
        lister = lab.begin("ps", "-a", "--format", "{{.Status}}")
        with pytest.raises(subprocess.TimeoutExpired):
            lister.wait(2)
    finally:
        os.kill(spawner, signal.SIGCONT)
    out, _ = lister.communicate(timeout=30)
    assert out.startswith(f"Exited ({lab.get('one').exit_code})".encode())


def test_an_init_reaps_all_that_its_program_leaves(lab: Lab) -> None:
    # each inner shell is an orphan at once, so that process 1 gets it
    storm = "for i in $(seq 200); do (sh -c 'exit 0' &); done; sleep 0.5; ps -o stat | grep -c Z; exit 9"
    outcome = lab("run", "--rm", "--init", "busybox", "sh", "-c", storm)
    assert (outcome.out, outcome.code) == ("0\n", 9)


def test_a_client_hands_its_signals_on_unless_it_is_not_to(lab: Lab) -> None:
    script = "trap 'echo got it; exit 4' TERM; echo ready; while :; do sleep 0.1; done"
    client = lab.begin("run", "--name", "proxied", "busybox", "sh", "-c", script)
    wait_until(lambda: lab.log("proxied") == b"ready\n")
    client.send_signal(signal.SIGTERM)
    out, _ = client.communicate(timeout=30)
    assert (out, client.returncode) == (b"ready\ngot it\n", 4)
    lab.ok("rm", "proxied")

    client = lab.begin("run", "--sig-proxy=false", "--name", "alone", "busybox", "sh", "-c", script)
    wait_until(lambda: lab.log("alone") == b"ready\n")
    client.send_signal(signal.SIGTERM)
    client.communicate(timeout=30)
    assert lab.get("alone").is_running


def test_a_container_that_is_removed_at_its_end_is_so_when_its_client_has_been_killed(lab: Lab) -> None:
    client = lab.begin("run", "--rm", "--name", "brief", "busybox", "sh", "-c", "echo up; sleep 1")
    assert client.stdout is not None
    assert client.stdout.readline() == b"up\n"
    client.kill()
    client.communicate(timeout=30)
    assert lab.get("brief").is_running
    wait_until(lambda: lab.ids() == [])


def test_a_detached_container_that_is_removed_at_its_end_is_so(lab: Lab) -> None:
    lab.ok("run", "-d", "--rm", "busybox", "true")
    wait_until(lambda: lab.ids() == [])


def test_a_container_on_a_network_has_an_address_only_while_it_is_there(lab: Lab) -> None:
    with_network = lab.ok("run", "--rm", "--network", "bridge", "busybox", "ip", "-4", "-o", "addr", "show", "eth0")
    assert "inet " in with_network
    leases = [name for _, _, names in os.walk(lab.paths.networks) for name in names if name.count(".") == 3]
    assert leases == []
    apply.remove_idle_bridge(lab.paths)


@pytest.mark.skipif(not os.path.isfile("/etc/ssl/certs/ca-certificates.crt"), reason="the host has no certificates")
def test_a_container_trusts_whom_the_host_trusts_only_when_asked_to_and_what_it_sets_itself_stays(lab: Lab) -> None:
    ask = ("busybox", "sh", "-c", "head -n 1 ${SSL_CERT_FILE:-/dev/null}; echo $PIP_CERT; ls /run")
    told = lab.ok("run", "--rm", "--trust-host-ca", "-e", "PIP_CERT=/mine", *ask)
    assert told.splitlines()[:2] == ["-----BEGIN CERTIFICATE-----", "/mine"]
    assert "lab-host-ca" not in lab.ok("run", "--rm", *ask)
