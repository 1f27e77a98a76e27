"""A guest's life as a target: starts, runs commands, is paused, stops, leaves nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from lab.errors import TargetError, TargetTimeout
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.protocol import GuestView, Pausable, Reachable, Traceable
from lab.target.spec import Command, Limits, MarkName, NetworkMode, Volume
from lab.units import NS_PER_S

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg")]

MIB = 1024 * 1024
PERMANENT = 0x06  # ATF_COM | ATF_PERM


def test_marks_come_in_their_order(running) -> None:
    names = [
        MarkName.SPAWNED, MarkName.ENVIRONMENT, MarkName.KERNEL, MarkName.USERSPACE, MarkName.READY,
    ]  # fmt: skip
    stamps = [running.marks[name] for name in names]
    assert stamps == sorted(stamps)
    assert MarkName.GONE not in running.marks


def test_the_kernel_took_a_while_between_its_entry_and_userspace(running) -> None:
    boot_ns = running.marks[MarkName.USERSPACE] - running.marks[MarkName.KERNEL]
    assert boot_ns > NS_PER_S // 20


def test_a_command_gives_its_output_its_errors_and_its_exit_code(running) -> None:
    done = running.target.exec(Command(argv=("sh", "-c", "echo out; echo err >&2; exit 7")))
    assert (done.exit_code, done.stdout, done.stderr) == (7, b"out\n", b"err\n")
    assert done.target_elapsed_ns is not None
    assert done.target_elapsed_ns > 0


@pytest.mark.parametrize(
    ("argv", "exit_code"),
    [
        (("no-such-program",), 127),
        (("/etc",), 126),
        (("sh", "-c", "kill -9 $$"), 137),
        (("true",), 0),
    ],
)
def test_ends_are_told_apart_by_exit_code(running, argv: tuple[str, ...], exit_code: int) -> None:
    assert running.target.exec(Command(argv=argv)).exit_code == exit_code


def test_a_mebibyte_goes_in_and_comes_back_unchanged(running) -> None:
    data = os.urandom(MIB)
    assert running.target.exec(Command(argv=("cat",), stdin=data)).stdout == data


def test_environment_and_directory_are_those_of_the_command(running) -> None:
    asked = Command(argv=("sh", "-c", "echo $A; pwd; hostname"), env=(("A", "b c"),), cwd="/tmp")
    assert running.target.exec(asked).stdout.decode().split("\n")[:3] == ["b c", "/tmp", running.target.spec.name]


def test_a_command_whose_child_keeps_its_output_open_still_ends(running) -> None:
    done = running.target.exec(Command(argv=("sh", "-c", "sleep 1000 & echo started")))
    assert (done.exit_code, done.stdout) == (0, b"started\n")


def test_a_command_over_its_time_is_killed_with_its_children(running) -> None:
    slow = Command(argv=("sh", "-c", "sleep 4242; true"), timeout_ns=NS_PER_S)
    with pytest.raises(TargetTimeout, match="did not end within 1 s"):
        running.target.exec(slow)
    assert b"4242" not in running.target.exec(Command(argv=("ps",))).stdout


def test_the_guest_has_the_memory_that_was_asked_for(running) -> None:
    assert isinstance(running.target, GuestView)
    memory = running.target.guest_meminfo()
    limit = running.target.spec.limits.memory_bytes
    assert limit * 0.8 < memory["MemTotal"] < limit  # the kernel keeps what it occupies itself
    assert 0 < memory["MemAvailable"] < memory["MemTotal"]


def test_the_guest_has_as_many_processors_as_asked_for(running) -> None:
    assert running.target.exec(Command(argv=("nproc",))).stdout == b"1\n"


def test_scratch_space_is_a_file_system_of_its_own(running) -> None:
    listed = running.target.exec(Command(argv=("sh", "-c", "grep ' /data ' /proc/mounts; echo x >/data/f"))).stdout
    assert listed.startswith(b"/dev/vd")
    assert b" ext4 rw" in listed


def test_a_service_in_the_guest_answers_the_host(running) -> None:
    assert isinstance(running.target, Reachable)
    serve = "echo hello | nc -l -p 8080 >/dev/null 2>&1 & until netstat -ltn | grep -q :8080; do :; done"
    running.target.exec(Command(argv=("sh", "-c", serve)))
    address = running.target._link.network.guest_address  # endpoint() is for targets that were given a service port
    with socket.create_connection((address, 8080), timeout=20) as connection:
        assert connection.recv(16) == b"hello\n"


def test_the_host_knows_where_the_guest_is_as_long_as_its_link_is_there(make) -> None:
    started = make(network=NetworkMode.BRIDGE)
    link = started.target._link.network
    started.target.start()
    assert link_neighbours(link.link) == {link.guest_address: (PERMANENT, link.mac)}
    started.target.stop()
    assert link_neighbours(link.link) == {}
    started.target.start()
    assert link_neighbours(link.link) == {link.guest_address: (PERMANENT, link.mac)}
    started.target.destroy()
    assert link_neighbours(link.link) == {}


def link_neighbours(link: str) -> dict[str, tuple[int, str]]:
    """Address -> flags and hardware address. Source: man arp(7), /proc/net/arp."""
    rows = (line.split() for line in Path("/proc/net/arp").read_text().splitlines()[1:])
    return {row[0]: (int(row[2], 16), row[3]) for row in rows if row[5] == link}


def test_qemu_is_in_the_targets_cgroup_with_all_its_threads(running) -> None:
    footprint = running.target.footprint()
    (pid,) = footprint.pids
    assert footprint.guest_memory
    assert len(footprint.links) == 1
    for directory in footprint.cgroups:
        assert str(pid) in Path(directory.path, "cgroup.procs").read_text().split()
    name = f"{running.target.spec.cgroup_parent}/{running.target.spec.name}"
    assert cgroups.processes(cgroups.detect(), name) == (pid,)


def test_a_paused_guest_goes_on_where_it_was(running) -> None:
    assert isinstance(running.target, Pausable)
    running.target.pause()
    running.target.resume()
    assert running.target.exec(Command(argv=("true",))).exit_code == 0


def test_the_documents_behind_a_guest_can_be_shown(running) -> None:
    assert isinstance(running.target, Traceable)
    documents = running.target.provenance()
    assert "<name>" + running.target.spec.name in documents["domain_xml"]
    assert "-accel\ntcg" in documents["qemu_argv"]


def test_two_processors_and_a_read_only_volume_work_on_a_q35(make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    volume = Volume(source=str(tmp_path), path="/mnt/volume", read_only=True)
    started = make(limits=Limits(vcpus=2), volumes=(volume,))
    started.target.start()
    done = started.target.exec(Command(argv=("sh", "-c", "nproc; cat /mnt/volume/file; touch /mnt/volume/x")))
    assert done.stdout == b"2\ncontent\n"
    assert b"Read-only file system" in done.stderr


def test_a_stopped_guest_is_gone_and_can_be_started_again(make) -> None:
    started = make()
    started.target.start()
    (pid,) = started.target.footprint().pids
    asked_ns = time.monotonic_ns()
    started.target.stop()
    assert asked_ns < started.marks[MarkName.GONE] <= time.monotonic_ns()
    assert not os.path.exists(f"/proc/{pid}")
    started.target.stop()
    started.target.start()
    assert started.target.exec(Command(argv=("true",))).exit_code == 0


def test_nothing_is_left_of_a_destroyed_guest(make, paths: Paths) -> None:
    started = make(scratch_bytes=16 * MIB)
    started.target.start()
    footprint = started.target.footprint()
    started.target.destroy()
    started.target.destroy()
    name = started.target.spec.name
    assert not os.path.exists(f"/proc/{footprint.pids[0]}")
    assert [group.path for group in footprint.cgroups if os.path.exists(group.path)] == []
    found = command.run(("find", paths.guests, paths.run, paths.libvirt, "-name", f"*{name}*")).text
    assert found == ""


def test_a_guest_that_never_gets_ready_is_a_timeout_with_what_it_said(make) -> None:
    quiet = Command(argv=("sh", "-c", "echo waiting for nothing >&2; sleep 1000"))
    started = make(command=quiet, start_timeout_ns=15 * NS_PER_S)
    with pytest.raises(TargetTimeout) as raised:
        started.target.start()
    assert "the first byte of output" in str(raised.value)
    assert "waiting for nothing" in str(raised.value)
    assert started.target.footprint().pids == ()


def test_a_main_command_that_ends_at_once_is_named_with_its_code(make) -> None:
    started = make(command=Command(argv=("sh", "-c", "echo no luck >&2; exit 5")))
    with pytest.raises(TargetError, match=r"ended with exit code 5[\s\S]*no luck"):
        started.target.start()


def test_a_broken_root_shows_the_consoles_last_lines(make) -> None:
    started = make()
    disk = started.target._disks.disks[0].path  # what no user can break, a test can
    os.truncate(disk, 0)
    made = command.run(("qemu-img", "create", "-q", "-f", "qcow2", disk, "8M"))
    assert made.exit_code == 0
    with pytest.raises(TargetError, match=r"last lines of its console:[\s\S]*mount ext4"):
        started.target.start()


def test_a_killed_vmm_is_said_clearly(make) -> None:
    started = make()
    started.target.start()
    (pid,) = started.target.footprint().pids
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(TargetError, match="QEMU ended with exit code 137"):
        started.target.exec(Command(argv=("sleep", "1000")))
    assert started.target.footprint().pids == ()
