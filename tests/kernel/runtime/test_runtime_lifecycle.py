"""Exit codes, failures, deaths, many at once: and nothing is ever left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lab.container.engine import Engine
from lab.container.spawner_client import SpawnerDied, StartFailed
from lab.container.spec.runtime import Mount, Status, User
from lab.errors import NoSuchContainer, StateConflict
from lab.linux.cgroup import layout
from lab.paths import Paths

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def _cgroups(parent: str, container_id: str) -> tuple[str, ...]:
    return layout.directories(layout.detect(), f"{parent}/{container_id}")


def _await_gone(pid: int) -> None:
    deadline_ns = time.monotonic_ns() + 30_000_000_000
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic_ns() < deadline_ns, f"process {pid} is still there"
        os.sched_yield()


def test_the_words_are_ocis(containers: Containers) -> None:
    container_id = containers.create("/bin/sleep", "1000000")
    assert containers.engine.state(container_id).status == Status.CREATED
    containers.start(container_id)
    assert containers.engine.state(container_id).status == Status.RUNNING
    containers.engine.kill(container_id, signal.SIGKILL)
    assert containers.engine.wait(container_id) == 137
    assert containers.engine.state(container_id).status == Status.STOPPED
    containers.engine.delete(container_id)
    with pytest.raises(NoSuchContainer):
        containers.engine.state(container_id)


def test_the_exit_code_is_the_programs(containers: Containers) -> None:
    assert containers.shell("exit 7").code == 7


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_death_by_a_signal_is_128_and_its_number(containers: Containers, number: int) -> None:
    container_id = containers.create("/bin/sh", "-c", "trap 'exit 99' USR1; sleep 1000000 & wait")
    running = containers.start(container_id)
    if number == signal.SIGKILL:
        containers.engine.kill(container_id, number)
    else:  # the first process of a pid namespace is immune to signals that it does not handle, but its children are not
        containers.engine.delete(container_id, force=True)
        assert containers.shell(f"sh -c 'kill -{number:d} $$'; exit $?").code == 128 + number
        return
    assert running.wait() == 128 + number


def test_marks_come_in_order(containers: Containers) -> None:
    before_ns = time.monotonic_ns()
    _, running = containers.start_sleeping()
    after_ns = time.monotonic_ns()
    names, instants = zip(*running.marks_ns, strict=True)
    assert names == ("spawned", "namespaces", "environment", "userspace")
    # clone returns in the parent and in the child at once, so only those two may be swapped
    assert before_ns < min(instants) <= max(instants) < after_ns
    assert list(instants[1:]) == sorted(instants[1:])


def test_a_stopped_container_starts_again_with_what_it_wrote(containers: Containers) -> None:
    container_id = containers.create("/bin/sh", "-c", "test -e /mark && exit 5; touch /mark; exit 4")
    assert containers.start(container_id).wait() == 4
    containers.engine.wait(container_id)
    assert containers.start(container_id).wait() == 5


def test_a_killed_container_starts_again_and_stays(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    containers.engine.terminate(container_id)
    running = containers.start(container_id)
    assert containers.exec(container_id, "/bin/id", "-u").out == "0\n"
    assert running.wait(time.monotonic_ns() + 50_000_000) is None


def test_a_volatile_layer_can_be_mounted_again(containers: Containers) -> None:
    container_id = containers.create("/bin/sh", "-c", "exit 0", volatile=True)
    assert containers.start(container_id).wait() == 0
    assert containers.start(container_id).wait() == 0


def test_a_program_that_is_not_there_is_127_and_leaves_nothing(containers: Containers) -> None:
    container_id = containers.create("no-such-program")
    with pytest.raises(StartFailed, match=r"no-such-program.*not found in \$PATH") as caught:
        containers.start(container_id)
    assert caught.value.exit_code == 127
    assert containers.engine.state(container_id).status == Status.CREATED
    assert _cgroups(containers.config.cgroup_parent, container_id) == ()


def test_a_directory_cannot_be_executed_and_is_126(containers: Containers) -> None:
    container_id = containers.create("/bin")
    with pytest.raises(StartFailed, match="/bin: Permission denied") as caught:
        containers.start(container_id)
    assert caught.value.exit_code == 126


def test_the_failing_step_is_named_with_path_and_errno(containers: Containers) -> None:
    bind = Mount(destination="/x", type="bind", source="/no/such/source", options=())
    container_id = containers.create("/bin/sh", mounts=(bind,))
    with pytest.raises(StartFailed, match=r"open bind /no/such/source: .*No such file or directory.*errno 2") as caught:
        containers.start(container_id)
    assert (caught.value.step, caught.value.errno, caught.value.exit_code) == ("open_bind", 2, 125)


def test_a_failed_start_can_be_followed_by_a_good_one(containers: Containers) -> None:
    test_a_program_that_is_not_there_is_127_and_leaves_nothing(containers)
    assert containers.shell("exit 3").code == 3


def test_exec_runs_beside_with_code_and_output(containers: Containers) -> None:
    container_id, running = containers.start_sleeping()
    outcome = containers.exec(container_id, "/bin/sh", "-c", "echo out; echo err >&2; ps; exit 9")
    assert (outcome.code, outcome.err) == (9, "err\n")
    assert outcome.out.startswith("out\n")
    assert "sleep 1000000" in outcome.out
    assert running.wait(time.monotonic_ns()) is None


def test_exec_of_what_is_not_there_is_127(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    with pytest.raises(StartFailed) as caught:
        containers.exec(container_id, "nope")
    assert caught.value.exit_code == 127


def test_exec_as_another_user_has_no_capabilities(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    process = replace(
        containers.engine.process(container_id, ("/bin/sh", "-c", "id -u; id -g; cat /proc/self/status")),
        user=User(uid=1000, gid=1001),
    )
    outcome = containers.exec(container_id, process=process)
    assert outcome.out.split()[:2] == ["1000", "1001"]
    assert "CapEff:\t0000000000000000" in outcome.out


def test_exec_in_a_stopped_container_is_a_conflict(containers: Containers) -> None:
    container_id = containers.create("/bin/true")
    with pytest.raises(StateConflict):
        containers.exec(container_id, "/bin/sh")


def test_an_id_can_be_taken_once(containers: Containers) -> None:
    container_id = containers.create("/bin/sh")
    with pytest.raises(StateConflict, match="already"):
        containers.create("/bin/sh", id=container_id)


def test_twenty_starts_at_once_all_come_up(containers: Containers) -> None:
    failures: list[BaseException] = []

    def start(number: int) -> None:
        try:
            assert containers.shell("exit 11", id=f"parallel-{number}").code == 11
        except BaseException as error:
            failures.append(error)

    containers.engine.runtime  # noqa: B018 - opened here, used by all threads
    threads = [threading.Thread(target=start, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_killed_spawner_takes_its_containers_along_and_is_noticed(containers: Containers) -> None:
    container_id, running = containers.start_sleeping()
    assert containers.engine.spawner_pid is not None
    os.kill(containers.engine.spawner_pid, signal.SIGKILL)
    with pytest.raises(SpawnerDied):
        running.wait(time.monotonic_ns() + 30_000_000_000)
    _await_gone(running.pid)
    assert containers.engine.state(container_id).status == Status.STOPPED
    containers.engine.delete(container_id)
    assert _cgroups(containers.config.cgroup_parent, container_id) == ()


def test_the_engine_goes_on_with_a_new_spawner(containers: Containers) -> None:
    test_a_killed_spawner_takes_its_containers_along_and_is_noticed(containers)
    assert containers.shell("exit 6").code == 6


_DOOMED = """
import os, sys
from lab.container.defaults import ContainerConfig
from lab.container.engine import Engine
from lab.container.spawner_client import Stdio
from lab.paths import Paths
root, layer, parent = sys.argv[1:]
engine = Engine(Paths.under(root))
null = os.open(os.devnull, os.O_RDWR)
for detached in (False, True):
    name = "detached" if detached else "doomed"
    sleeping = ("/bin/sleep", "1000000")
    config = ContainerConfig(id=name, args=sleeping, layers=(layer,), cgroup_parent=parent, detached=detached)
    engine.create(config)
    running = engine.start(name, stdio=Stdio(stdin=null, stdout=null, stderr=null))
    print(running.pid, flush=True)
sys.stdin.read()
"""


def test_after_kill_9_of_everything_repair_leaves_nothing(containers: Containers, fresh_paths: Paths) -> None:
    layer, parent = containers.config.layers[0], containers.config.cgroup_parent
    argv = [sys.executable, "-c", _DOOMED, fresh_paths.root, layer, parent]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as doomed:
        assert doomed.stdout is not None
        doomed_pid, detached_pid = int(doomed.stdout.readline()), int(doomed.stdout.readline())
        doomed.kill()
    _await_gone(doomed_pid)
    with Engine(fresh_paths) as engine:
        assert engine.state("detached").status == Status.RUNNING
        assert engine.repair() == ("doomed",)
        assert [state.id for state in engine.list()] == ["detached"]
        assert _cgroups(parent, "doomed") == ()
        engine.kill("detached", signal.SIGKILL)
        engine.wait("detached")
        _await_gone(detached_pid)
        engine.delete("detached", force=True)
    assert os.listdir(fresh_paths.containers) == []


def test_a_half_made_directory_of_a_dead_process_is_removed(containers: Containers, fresh_paths: Paths) -> None:
    os.makedirs(os.path.join(fresh_paths.containers, ".new-1-1-x", "upper"))
    assert containers.engine.repair() == (".new-1-1-x",)


def test_no_mount_of_a_container_is_seen_by_the_host(containers: Containers) -> None:
    containers.start_sleeping()
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert containers.engine.state(containers.engine.list()[0].id).bundle not in mounts.read()


def test_no_descriptor_leaks_into_the_container_or_stays_in_the_spawner(containers: Containers) -> None:
    containers.shell("exit 0")
    spawner = containers.engine.spawner_pid
    before = len(os.listdir(f"/proc/{spawner}/fd"))
    for _ in range(3):
        assert containers.shell("ls /proc/self/fd").out.split() == ["0", "1", "2", "3"]  # 3 is ls's own
    with pytest.raises(StartFailed):
        containers.run("nope")
    container_id, _ = containers.start_sleeping()
    assert containers.exec(container_id, "/bin/ls", "/proc/self/fd").out.split() == ["0", "1", "2", "3"]
    containers.engine.delete(container_id, force=True)
    assert len(os.listdir(f"/proc/{spawner}/fd")) == before
