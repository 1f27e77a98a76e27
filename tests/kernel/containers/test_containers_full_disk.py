"""Containers on a root without space or descriptors: what cannot be noted does not start, the rest stays watched."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import unmount

from lab.container import log_file, logs, supervision
from lab.container.log_file import Log
from lab.container.loop import Loop
from lab.container.supervision import Peek, Supervised
from lab.linux import mount
from lab.paths import Paths

from .conftest import TIMEOUT_S, Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

SLEEP = ("busybox", "sleep", "1000000")


@pytest.fixture
def small(lab_root: Lab) -> Iterator[Lab]:
    """Return a root with the busybox image on a file system of 16 MiB."""
    archive = os.path.join(lab_root.paths.root, "busybox.tar")
    with tempfile.TemporaryDirectory(prefix="lab-test-") as directory:
        mount.mount("tmpfs", directory, "tmpfs", 0, "size=16m")
        lab = Lab(Paths.under(directory))
        try:
            lab_root.ok("save", "-o", archive, "busybox")
            lab.ok("load", "-i", archive)
            yield lab
        finally:
            os.unlink(archive)
            free(lab)
            lab("rm", "-f", *lab.ids())
            for pid in lab.spawners():
                os.kill(pid, 9)
            wait_until(lambda: not lab.spawners() and not lab.aftermaths())
            unmount(directory)


@pytest.fixture
def bundle() -> Iterator[str]:
    """Return the directory of a container, on a file system of 1 MiB with room for few files."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as directory:
        mount.mount("tmpfs", directory, "tmpfs", 0, "size=1m,nr_inodes=8")
        try:
            path = os.path.join(directory, "bundle")
            os.mkdir(path)
            yield path
        finally:
            unmount(directory)


def fill(lab: Lab) -> None:
    fill_up(os.path.join(lab.paths.root, "fill"))


def fill_up(path: str) -> None:
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                continue
        except OSError:
            return


def free(lab: Lab) -> None:
    with open(os.path.join(lab.paths.root, "fill"), "wb"):
        return


def test_a_start_without_space_fails_and_leaves_the_others_supervised(small: Lab) -> None:
    small.ok("run", "-d", "--name", "other", *SLEEP)
    small("run", "--name", "one", "busybox", "sh", "-c", "exit 3")
    spawners = small.spawners()
    fill(small)
    outcome = small("start", "one")
    assert outcome.code == 1
    assert "No space left on device" in outcome.err
    assert small.spawners() == spawners
    assert (small.get("one").status, small.get("one").exit_code) == ("exited", 3)
    free(small)
    small.ok("stop", "-t", "0", "other")
    assert small.get("other").exit_code == 137  # somebody saw it end
    assert small("start", "-a", "one").code == 3


def test_a_container_that_fills_the_disk_is_told_so_and_all_else_goes_on(small: Lab) -> None:
    small.ok("run", "-d", "--name", "other", *SLEEP)
    script = "dd if=/dev/zero of=/full bs=64k; echo ended; exit 3"
    outcome = small("run", "--name", "writer", "busybox", "sh", "-c", script)
    assert (outcome.code, outcome.out, "No space left on device" in outcome.err) == (3, "ended\n", True), outcome
    assert (small.get("writer").status, small.get("other").status) == ("exited", "running")
    small.ok("rm", "writer")  # which makes room
    assert small.ok("run", "--rm", "busybox", "echo", "there is room") == "there is room"
    assert small.ok("image", "verify").endswith(" 0 damaged")


def test_a_rename_without_space_changes_nothing(small: Lab) -> None:
    container_id = small.ok("create", "--name", "one", "busybox", "true")
    fill(small)
    refused = small("rename", "one", "other")
    assert (refused.code, "No space left on device" in refused.err) == (1, True)
    assert small.ok("ps", "-a", "--format", "{{.Names}}") == "one"
    assert not [name for name in os.listdir(small.get(container_id).state.bundle) if name.endswith(".new")]
    free(small)
    small.ok("rename", "one", "other")
    assert small.ok("ps", "-a", "--format", "{{.Names}}") == "other"


def run_of(loop: Loop, bundle: str, pid: int, restart: str = "no") -> Supervised:
    """Return one run of a container with a terminal, that is noted to have begun."""
    run = Supervised(loop, bundle, (restart, 0, 0, False), Peek(), has_terminal=True)
    run.began(pid)
    return run


def test_an_end_that_is_noted_late_is_not_noted_of_the_next_run(bundle: str) -> None:
    loop, filling = Loop(), os.path.join(bundle, "fill")
    run = run_of(loop, bundle, os.getpid())
    fill_up(filling)
    assert not run.ended(3, lambda: None)
    assert supervision.read_exit_file(bundle) is None
    os.unlink(filling)
    following = run_of(loop, bundle, os.getppid())
    loop.step()  # the time has come to try again
    assert supervision.read_exit_file(bundle) is None
    following.ended(4, lambda: None)
    ended = supervision.read_exit_file(bundle)
    assert ended is not None
    assert ended.code == 4


def test_a_restart_waits_until_the_end_before_it_is_noted(bundle: str) -> None:
    loop, filling, restarts = Loop(), os.path.join(bundle, "fill"), list[int]()
    run = run_of(loop, bundle, os.getpid(), restart="always")
    fill_up(filling)
    assert run.ended(3, lambda: restarts.append(1))
    loop.step()
    assert restarts == []
    os.unlink(filling)
    loop.step()
    assert restarts == [1]
    ended = supervision.read_exit_file(bundle)
    assert ended is not None
    assert (ended.code, ended.next_restart) == (3, 1)


def test_a_start_that_fails_on_a_full_disk_leaves_what_was_known_before(bundle: str) -> None:
    loop, filling = Loop(), os.path.join(bundle, "fill")
    run_of(loop, bundle, os.getpid()).ended(3, lambda: None)
    before = tuple(supervision.read_text(os.path.join(bundle, name)) for name in ("pid", "exit"))
    run = run_of(loop, bundle, os.getppid())
    fill_up(filling)
    run.failed()
    assert tuple(supervision.read_text(os.path.join(bundle, name)) for name in ("pid", "exit")) == before


def test_a_log_that_cannot_be_begun_anew_goes_on_when_there_is_room(bundle: str) -> None:
    with open(os.path.join(bundle, log_file.LIMITS_FILE), "w", encoding="ascii") as file:
        file.write("100 3")
    log, others = Log(bundle), [os.path.join(bundle, str(number)) for number in range(3)]
    for path in others:  # with which the file system has as many files as it may
        with open(path, "wb"):
            continue
    for number in range(9):
        log.append("stdout", b"line %d\n" % number)
    os.unlink(others[0])
    log.append("stdout", b"last\n")
    log.close()
    text = "".join(Path(path).read_text(encoding="ascii") for path in logs.files(bundle))
    assert [line.split()[-1] for line in text.splitlines() if " line " in line] == [*"345"]  # of the two files before
    assert "[21 bytes of output were not logged: no space left" in text
    assert text.endswith("last\n")


def test_containers_have_as_many_descriptors_as_the_host_gives_whatever_the_users_shell_says(lab: Lab) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lab.end_spawners()
    argv = ("prlimit", f"--nofile=64:{hard}", *lab.argv("run", "--rm", "busybox", "sh", "-c", "ulimit -n"))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (0, f"{hard}\n"), done.stderr
