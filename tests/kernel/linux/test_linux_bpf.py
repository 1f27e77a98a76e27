"""Programs are loaded, attached to a cgroup, and go with it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.linux import bpf, command
from lab.linux.cgroup import layout as cgroup

pytestmark = [pytest.mark.root]

DEADLINE_NS = 30_000_000_000
DENY = b"".join((bpf.instruction(bpf.BPF_ALU64_MOV_K, immediate=0), bpf.instruction(bpf.BPF_EXIT)))
ALLOW = b"".join((bpf.instruction(bpf.BPF_ALU64_MOV_K, immediate=1), bpf.instruction(bpf.BPF_EXIT)))


@pytest.fixture
def directory() -> Iterator[str]:
    """Return a fresh cgroup in the v2 hierarchy."""
    layout = cgroup.detect()
    unified = layout.hierarchy("")
    if unified is None:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    name = f"lab-test-bpf-{os.getpid()}"
    cgroup.create(layout, name, ())
    yield unified.directory(name)
    cgroup.remove(layout, name, deadline_ns=time.monotonic_ns() + DEADLINE_NS)


@contextmanager
def _attached(directory: str, instructions: bytes, flags: int = bpf.BPF_F_ALLOW_MULTI) -> Iterator[None]:
    program = bpf.load_program(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, instructions, "lab_test")
    opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        bpf.attach_program(opened, program, bpf.BPF_CGROUP_DEVICE, flags, path=directory)
    finally:
        os.close(opened)
        os.close(program)
    yield


def _reads_zeros(directory: str) -> bool:
    script = f"echo 0 > {directory}/cgroup.procs; head -c 1 /dev/zero"
    return command.run(("sh", "-c", script)).stdout == b"\0"


def test_a_program_decides_for_the_processes_of_its_cgroup_and_below(directory: str) -> None:
    below = os.path.join(directory, "below")
    os.mkdir(below)
    assert _reads_zeros(below)
    with _attached(directory, DENY):
        assert not _reads_zeros(directory)
        assert not _reads_zeros(below)
        assert _reads_zeros(os.path.dirname(directory))  # nobody else is touched


def test_programs_of_parent_and_child_must_agree(directory: str) -> None:
    below = os.path.join(directory, "below")
    os.mkdir(below)
    with _attached(directory, ALLOW), _attached(below, ALLOW):
        assert _reads_zeros(below)
    with _attached(directory, DENY):
        assert not _reads_zeros(below)


def test_a_program_that_the_verifier_refuses_is_an_error_with_its_name() -> None:
    never_ends = bpf.instruction(bpf.BPF_ALU64_MOV_K, immediate=1)
    with pytest.raises(OSError, match=r"Invalid argument.*lab_test"):
        bpf.load_program(bpf.BPF_PROG_TYPE_CGROUP_DEVICE, never_ends, "lab_test")


def test_what_is_no_cgroup_takes_no_program(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path)), _attached(str(tmp_path), ALLOW):
        pass
