"""A lab process that is killed with a guest running: two processes at once, and repair."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from lab.linux import command
from lab.paths import Paths
from lab.target.backends.domain_home import repair
from lab.vm import capabilities
from lab.vm.domain_spec import Accelerator

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg")]

# Another lab process: it starts a guest, says so, and waits.
_OTHER = """
import sys, time
from lab.paths import Paths
from lab.target.registry import open_backend
from lab.target.spec import Command, TargetSpec
root, cache, run, name, image = sys.argv[1:]
backend = open_backend("vm-tcg", Paths(root=root, cache=cache, run=run))
argv = ("sh", "-c", "echo ready; sleep 1000000")
spec = TargetSpec(name=name, image=image, command=Command(argv=argv), cgroup_parent=name + "-parent")
target = backend.provision(spec, lambda name, at_ns: None)
target.start()
sys.stdout.write(f"{target.footprint().pids[0]}\\n")
sys.stdout.flush()
time.sleep(1000000)
"""


def test_a_second_process_has_guests_of_its_own_and_the_first_repairs_what_it_leaves(
    running, paths: Paths, image: str
) -> None:
    name = f"lab-guest-crash-{os.getpid()}"
    argv = (sys.executable, "-c", _OTHER, paths.root, paths.cache, paths.run, name, image)
    other = command.spawn(argv, stdout=command.PIPE)
    assert other.stdout is not None
    qemu = int(other.stdout.readline())
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert name in repair(paths)
    assert not _is_running(qemu)
    assert not os.path.exists(os.path.join(paths.guests, name))
    assert running.target.footprint().pids  # ours, which has an owner, was left alone
    for directory in command.run(("find", "/sys/fs/cgroup", "-depth", "-name", f"{name}-parent")).text.splitlines():
        os.rmdir(directory)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_the_boot_check_is_tried_once_for_a_boot_of_the_host(paths: Paths) -> None:
    first = capabilities.boots_linux(paths, Accelerator.TCG)
    path = os.path.join(paths.checks, "boots-linux-tcg.json")
    written_ns = os.stat(path).st_mtime_ns
    assert capabilities.boots_linux(paths, Accelerator.TCG) == first
    assert os.stat(path).st_mtime_ns == written_ns


@pytest.mark.needs("kvm-device")
def test_the_tiny_guest_gives_an_answer_whatever_kvm_it_is() -> None:
    answer = capabilities.kvm_runs_tiny_guest()
    assert answer.works or answer.reason
