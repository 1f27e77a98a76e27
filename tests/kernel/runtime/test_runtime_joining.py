"""Containers that join the namespaces of another one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.container.spec.runtime import JOINS
from lab.errors import StateConflict

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

MODES = {"ipc": "ipc", "uts": "uts", "network_namespace": "net", "pid": "pid"}


@pytest.mark.parametrize(("mode", "link"), MODES.items())
def test_one_namespace_is_another_containers_and_the_rest_its_own(containers: Containers, mode: str, link: str) -> None:
    other, running = containers.start_sleeping()
    links = ("ipc", "uts", "net", "pid", "mnt", "cgroup")
    script = "; ".join(f"/bin/busybox readlink /proc/self/ns/{each}" for each in links)
    found = dict(zip(links, containers.shell(script, **{mode: JOINS + other}).out.split(), strict=True))
    shared = {each for each in links if found[each] == os.readlink(f"/proc/{running.pid}/ns/{each}")}
    assert shared == {link}
    assert not {each for each in links if found[each] == os.readlink(f"/proc/self/ns/{each}")}


def test_the_processes_of_the_other_container_are_seen(containers: Containers) -> None:
    other, _ = containers.start_sleeping()
    outcome = containers.shell("cat /proc/1/cmdline; echo; echo $$", pid=JOINS + other)
    assert outcome.out.startswith("/bin/sleep\x001000000")
    assert outcome.out.split()[-1] != "1"


def test_shared_memory_of_the_other_container_is_shared(containers: Containers) -> None:
    other, _ = containers.start_sleeping()
    containers.exec(other, "/bin/sh", "-c", "echo theirs > /dev/shm/note")
    outcome = containers.shell("cat /dev/shm/note; echo mine > /dev/shm/answer", ipc=JOINS + other)
    assert outcome.out == "theirs\n"
    assert containers.exec(other, "/bin/cat", "/dev/shm/answer").out == "mine\n"


def test_a_container_that_does_not_run_cannot_be_joined(containers: Containers) -> None:
    other = containers.create("/bin/true")
    with pytest.raises(StateConflict, match=f"cannot join namespaces of a non running container: {other}"):
        containers.shell("true", ipc=JOINS + other)


def test_a_program_executed_beside_is_in_the_joined_namespaces_too(containers: Containers) -> None:
    other, running = containers.start_sleeping()
    joining, _ = containers.start_sleeping(pid=JOINS + other, network_namespace=JOINS + other)
    for link in ("pid", "net"):
        found = containers.exec(joining, "/bin/busybox", "readlink", f"/proc/self/ns/{link}").out.strip()
        assert found == os.readlink(f"/proc/{running.pid}/ns/{link}")


@pytest.mark.parametrize("mode", ["host", "other"])
def test_what_a_container_leaves_in_a_shared_pid_namespace_dies_with_it(containers: Containers, mode: str) -> None:
    pid = mode if mode == "host" else JOINS + containers.start_sleeping()[0]
    container_id = containers.create("/bin/sh", "-c", "sleep 1000000 & sleep 1000000 & exit 3", pid=pid)
    assert containers.start(container_id).wait() == 3
    assert containers.engine.runtime.processes(containers.engine.state(container_id)) == ()
