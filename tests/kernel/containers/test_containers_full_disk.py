"""Containers on a root without space or descriptors: what cannot be noted does not start, the rest stays watched."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator

import pytest

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
            mount.umount2(directory, 0)


def fill(lab: Lab) -> None:
    with open(os.path.join(lab.paths.root, "fill"), "wb", buffering=0) as file:
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


def test_containers_have_as_many_descriptors_as_the_host_gives_whatever_the_users_shell_says(lab: Lab) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for pid in lab.spawners():
        os.kill(pid, 9)
    wait_until(lambda: not lab.spawners())
    argv = ("prlimit", f"--nofile=64:{hard}", *lab.argv("run", "--rm", "busybox", "sh", "-c", "ulimit -n"))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (0, f"{hard}\n"), done.stderr
