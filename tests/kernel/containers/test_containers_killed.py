"""Whatever is killed, whenever: nothing that was finished is lost, nothing hangs, and nothing is left.

The kills come at random instants, whose seed is stored here; LAB_TEST_KILLS makes a longer run of it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable

import pytest

from lab.container.containers import Containers
from lab.errors import NoSuchContainer
from lab.linux.cgroup import layout

from .conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

SEED = 20260112
KILLS = int(os.environ.get("LAB_TEST_KILLS", "12"))
LONGEST_S = 0.5
CALM_S = 30
"""What the next command may take at most, whatever it has to repair."""

LINES = "i=0; while :; do i=$((i+1)); echo $i; [ $((i % 50)) = 0 ] && sleep 0.01; done"


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _inits(lab: Lab) -> list[int]:
    with Containers(lab.paths) as containers:
        return [container.state.pid for container in containers.all() if container.is_running]


def _victims(lab: Lab, client: subprocess.Popen[bytes]) -> dict[str, Callable[[], list[int]]]:
    return {
        "client": lambda: [client.pid],
        "spawner": lab.spawners,
        "init": lambda: _inits(lab),
        "aftermath": lab.aftermaths,
    }


COMMANDS = {
    "run": ("run", "--name", "victim", "busybox", "seq", "2000"),
    "run-rm": ("run", "--rm", "busybox", "seq", "2000"),
    "run-detached": ("run", "-d", "--restart", "on-failure:1", "busybox", "sh", "-c", "seq 2000; exit 1"),
    "rm": ("rm", "-f", "writer"),
    "logs": ("logs", "-f", "writer"),
    "exec": ("exec", "writer", "sleep", "0.2"),
    "stop": ("stop", "-t", "0", "writer"),
    "restart": ("restart", "-t", "0", "writer"),
}


def _scenes() -> list[tuple[str, str, float]]:
    chance = random.Random(SEED)
    scenes = [(command, victim) for command in COMMANDS for victim in ("client", "spawner", "init", "aftermath")]
    return [(*scenes[number % len(scenes)], chance.uniform(0, LONGEST_S)) for number in range(KILLS)]


@pytest.mark.timeout(900)
def test_kills_at_random_instants_lose_nothing_and_leave_nothing(lab: Lab) -> None:
    kept = lab.ok("run", "--name", "kept", "busybox", "seq", "1000")
    images = lab.ok("images", "-q")
    for command, victim, after_s in _scenes():
        scene = f"{command}: {victim} killed after {after_s:.3f} s"
        _remove(lab, "writer", "victim")
        lab.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", LINES)
        client = lab.begin(*COMMANDS[command])
        time.sleep(after_s)  # the instant that chance has chosen
        before = lab.log("writer")
        _kill(_victims(lab, client)[victim]())
        _end(client, scene)
        assert lab.log("kept").decode() == kept + "\n", scene
        _check_writer(lab, before, scene)
        well = lab("run", "--rm", "busybox", "echo", "well", timeout_s=CALM_S)
        assert (well.out, well.err) == ("well\n", ""), (scene, well)
    assert lab.ok("images", "-q") == images
    _remove_all(lab)


def test_a_supervisor_that_is_killed_while_it_starts_a_container_again_is_followed_by_another(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "loop", "--restart", "always", "busybox", "echo", "round")
    for _ in range(5):
        wait_until(lab.aftermaths)
        _kill(lab.spawners())
        assert lab("run", "--rm", "busybox", "echo", "well", timeout_s=CALM_S).out == "well\n"
        rounds = lab.log("loop").count(b"round")
        wait_until(lambda rounds=rounds: lab.log("loop").count(b"round") > rounds)


def _remove(lab: Lab, *references: str) -> None:
    with Containers(lab.paths) as containers:
        for reference in references:
            with contextlib.suppress(NoSuchContainer):
                containers.remove(reference, force=True)


def _end(client: subprocess.Popen[bytes], scene: str) -> None:
    try:
        client.communicate(timeout=1)
    except subprocess.TimeoutExpired:  # `logs -f` of what still writes
        client.kill()
        client.communicate(timeout=CALM_S)
    assert client.returncode is not None, scene


def _check_writer(lab: Lab, before: bytes, scene: str) -> None:
    """What was in the log is there still, and it goes on without a gap, however often it has begun anew."""
    after = lab.log("writer")
    if not after:
        return  # removed, as it was asked to be
    assert after.startswith(before), scene
    numbers = [int(line) for line in after.split(b"\n")[:-1]]
    jumps = [(one, two) for one, two in itertools.pairwise(numbers) if two not in (one + 1, 1)]
    assert all(two <= one for one, two in jumps), (scene, jumps)  # seen twice perhaps, never not at all


def _remove_all(lab: Lab) -> None:
    wait_until(lambda: not lab.aftermaths())
    for container_id in lab.ids():
        lab("rm", "-f", container_id, timeout_s=CALM_S)
    assert lab.ids() == []
    found = layout.detect()
    for directory in layout.directories(found, "lab"):
        ours = [name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name))]
        living = {state for state in ours if os.path.isdir(os.path.join(lab.paths.containers, state))}
        assert not living
    with open("/proc/self/mountinfo", encoding="ascii") as file:
        assert lab.paths.containers not in file.read()
