"""The testbed's machine from `up` to `down`, as its user has it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from testbed.conftest import Lab

from lab.linux import command
from lab.paths import Paths
from lab.testbed import bed, process

pytestmark = [pytest.mark.root, pytest.mark.needs("testbed"), pytest.mark.timeout(1500)]

RESUME_S = 120.0  # 4 s where nothing else runs
SUM = "import time; a = time.monotonic_ns(); sum(range(10**6)); print(time.monotonic_ns() - a, time.time_ns())"


def is_gone(pid: int) -> bool:
    """Return whether a process goes away; it is whoever has adopted it who reaps it, in its own time."""
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < deadline:
        time.sleep(0.05)
    return not os.path.exists(f"/proc/{pid}")


def test_a_command_has_its_exit_code_its_streams_and_its_environment(lab: Lab, testbed: bed.Testbed) -> None:
    done = lab("run", "-e", "A=b", "--", "sh", "-c", "cat; echo $A; echo wrong >&2; exit 3", stdin=b"in\n")
    assert (done.exit_code, done.stdout, done.stderr) == (3, b"in\nb\n", b"wrong\n")


def test_the_working_tree_is_there_as_it_is_now(lab: Lab, testbed: bed.Testbed, pytestconfig: pytest.Config) -> None:
    here = Path(__file__)
    done = lab("run", "--", "sha256sum", str(here.relative_to(pytestconfig.rootpath)))
    assert done.text.split()[0] == hashlib.sha256(here.read_bytes()).hexdigest()


def test_there_are_real_kvm_and_one_cgroup_hierarchy_and_both_are_said_to_be_emulated(
    lab: Lab, testbed: bed.Testbed
) -> None:
    program = (
        "import json; from lab.bench import host; from lab.linux.cgroup import layout; from lab.vm import capabilities;"
        "found = host.dimensions({});"
        "print(json.dumps([found['hardware'], found['kvm_flavour'], found['cgroup_layout'],"
        "capabilities.kvm_opens().works, capabilities.kvm_runs_tiny_guest().works]))"
    )
    done = lab("run", "--", "python", "-c", program)
    assert json.loads(done.text) == ["emulated", "amd", "unified", True, True]


def test_the_machine_has_the_time_of_day(lab: Lab, testbed: bed.Testbed) -> None:
    assert abs(float(lab("run", "--", "date", "+%s").text) - time.time()) < 120


def test_it_comes_back_within_seconds_and_leaves_nothing_when_it_goes(
    lab: Lab, testbed: bed.Testbed, paths: Paths
) -> None:
    pid = testbed.status().pid
    assert pid is not None
    assert lab("down").exit_code == 0
    assert is_gone(pid)
    assert os.listdir(paths.testbed_run) == ["lock"]
    assert not os.path.exists(paths.testbed)
    assert lab("run", "true").exit_code == 3
    began = time.monotonic()
    assert lab("up").exit_code == 0
    assert time.monotonic() - began < RESUME_S
    shown = json.loads(lab("status", "--format", "json").text)
    assert (shown["mode"], shown["pid"]) == ("running", testbed.status().pid)


def test_what_a_killed_up_leaves_is_removed_by_the_next(lab: Lab, testbed: bed.Testbed, paths: Paths) -> None:
    assert lab("down").exit_code == 0
    up = command.spawn((sys.executable, "-m", "lab", "testbed", "up"), env={**os.environ, "LAB_COMMAND_SERVER": "off"})
    deadline = time.monotonic() + RESUME_S
    while (abandoned := process.pid_of(paths.testbed_run)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    up.send_signal(signal.SIGKILL)
    up.wait()
    assert abandoned is not None
    assert testbed.status().mode is bed.Mode.DOWN
    assert lab("up").exit_code == 0
    assert is_gone(abandoned)
    assert lab("run", "true").exit_code == 0


def test_a_command_whose_caller_is_killed_ends(lab: Lab, testbed: bed.Testbed) -> None:
    argv = (sys.executable, "-m", "lab", "testbed", "run", "--", "sh", "-c", "echo begun; exec sleep 98765")
    caller = command.spawn(argv, stdout=command.PIPE)
    assert caller.stdout is not None
    assert caller.stdout.readline() == b"begun\n"
    caller.kill()
    caller.wait()
    caller.stdout.close()
    deadline = time.monotonic() + RESUME_S
    while lab("run", "--", "pgrep", "-f", "sleep 9876[5]").exit_code == 0 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert lab("run", "--", "pgrep", "-f", "sleep 9876[5]").exit_code == 1


def test_counted_instructions_are_the_same_to_the_nanosecond(lab: Lab, testbed: bed.Testbed) -> None:
    assert lab("down").exit_code == 0
    assert lab("up", "--deterministic").exit_code == 0
    try:
        first, second = (lab("run", "--", "python", "-c", SUM) for _ in range(2))
    finally:
        lab("down")
        lab("up")
    assert first.exit_code == 0
    assert first.stdout == second.stdout
    assert first.stderr == second.stderr


def test_purging_takes_along_what_a_killed_builder_has_mounted(fresh_paths: Paths) -> None:
    root = os.path.join(fresh_paths.testbed_cache, "work", "root")
    os.makedirs(root)
    assert command.run(("mount", "-t", "tmpfs", "left", root)).exit_code == 0
    assert not bed.Testbed(fresh_paths, str).down(purge=True)
    assert not os.path.ismount(root)
    assert not os.path.exists(fresh_paths.testbed_cache)
