"""Many containers: at once, one after the other, and what they cost the process that supervises them."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.container.containers import Containers
from lab.container.options.run import RunOptions
from lab.linux.cgroup import layout

from .conftest import Lab, Outcome, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

AT_ONCE = int(os.environ.get("LAB_TEST_AT_ONCE", "60"))
"""How many commands run at once; 200 on a machine that has the processors for it."""
COUNT = 100
OWN_BYTES_MOST = 2 << 20
"""What the supervisor may have for itself above an interpreter that has imported nothing; usual is 1.4 MiB."""
EACH_BYTES_MOST = 64 << 10
"""What it may have for each idle container; usual is 5 KiB."""
SLOWER_RATIO_MOST = 2.5
"""The last tenth of the containers against the first tenth; wide, since shared machines are noisy."""


def test_many_commands_at_once_all_do_what_they_are_asked(lab: Lab) -> None:
    lab.ok("run", "--rm", "busybox", "true")

    def run(number: int) -> Outcome:
        return lab("run", "--rm", "busybox", "sh", "-c", f"echo {number}; exit {number % 100}", timeout_s=250)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        outcomes = list(pool.map(run, range(AT_ONCE)))
    assert [(outcome.out, outcome.code) for outcome in outcomes] == [
        (f"{number}\n", number % 100) for number in range(AT_ONCE)
    ]
    assert lab.ids() == []


def test_a_hundred_containers_are_as_quick_and_as_small_as_the_first(lab: Lab) -> None:
    started_s, removed_s, private_bytes = [], [], []
    lab.end_spawners()  # one that has served other tests has what those needed
    with Containers(lab.paths) as containers:
        ids = []
        for _ in range(COUNT):
            began = time.monotonic()
            ids.append(containers.create(RunOptions(image="busybox", command=("sleep", "9999"), network="none")).id)
            containers.start(ids[-1]).close()
            started_s.append(time.monotonic() - began)
            (spawner,) = lab.spawners()
            private_bytes.append(_private_bytes(spawner))
        for container_id in ids:
            began = time.monotonic()
            containers.remove(container_id, force=True)
            removed_s.append(time.monotonic() - began)
    assert _slowdown(started_s) < SLOWER_RATIO_MOST
    assert _slowdown(removed_s) < SLOWER_RATIO_MOST
    own_bytes = private_bytes[0] - _bare_interpreter_bytes()
    each_bytes = (private_bytes[-1] - private_bytes[0]) / (COUNT - 1)
    assert own_bytes < OWN_BYTES_MOST
    assert each_bytes < EACH_BYTES_MOST
    (spawner,) = lab.spawners()
    wait_until(lambda: len(os.listdir(f"/proc/{spawner}/fd")) < COUNT)


def _slowdown(times_s: list[float]) -> float:
    tenth = len(times_s) // 10
    return statistics.median(times_s[-tenth:]) / statistics.median(times_s[:tenth])


def _private_bytes(pid: int | str) -> int:
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))


def _bare_interpreter_bytes() -> int:
    bare = subprocess.Popen((sys.executable, "-I", "-S", "-c", "input()"), stdin=subprocess.PIPE)
    try:
        wait_until(lambda: os.path.exists(f"/proc/{bare.pid}/smaps_rollup") and _is_reading(bare.pid))
        return _private_bytes(bare.pid)
    finally:
        bare.communicate(b"\n")


def _is_reading(pid: int) -> bool:
    with open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        return "pipe" in file.read()


@pytest.mark.parametrize("again", range(10))
def test_a_removal_by_force_amid_a_start_leaves_nothing(lab: Lab, again: int) -> None:
    container_id = lab.ok("create", "--name", "torn", "busybox", "sleep", "1000")
    client = lab.begin("start", "torn")
    time.sleep(0.03 * again)  # a start takes longer than the shortest, and less than the longest of these
    lab.ok("rm", "-f", "torn")
    client.communicate(timeout=30)
    wait_until(lambda: lab.ids() == [] or lab("rm", "-f", "torn").code == 0)
    assert list(_cgroups(container_id)) == []


def _cgroups(container_id: str) -> Iterator[str]:
    for directory in layout.directories(layout.detect(), "lab"):
        if os.path.isdir(os.path.join(directory, container_id)):
            yield directory
