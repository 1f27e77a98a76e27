"""What a container of ours can see and do, on the real kernel."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.container import defaults
from lab.container.spawner_client import StartFailed
from lab.container.spec.runtime import Mount
from lab.linux import capabilities

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

NAMESPACES = ("mnt", "pid", "uts", "ipc", "net", "cgroup")


def test_every_namespace_is_the_containers_own(containers: Containers) -> None:
    container_id, running = containers.start_sleeping()
    for name in NAMESPACES:
        assert os.readlink(f"/proc/{running.pid}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    assert containers.exec(container_id, "/bin/hostname").out.strip() == container_id[:12]


def test_the_main_program_is_process_1_and_sees_no_other(containers: Containers) -> None:
    assert containers.shell("echo $$; cd /proc; echo [0-9]*").out.split() == ["1", "1"]


def test_the_root_is_the_image_and_the_host_is_out_of_sight(containers: Containers) -> None:
    outcome = containers.shell("ls /; cat /proc/1/mountinfo")
    assert outcome.code == 0
    listed, mounts = outcome.out.split("tmp\n", 1)
    assert set(listed.split()) == {"bin", "dev", "proc", "sys"}
    assert " / / " in mounts.splitlines()[0]
    assert "/home" not in mounts


def test_what_is_written_stays_in_the_containers_layer(containers: Containers, busybox_layer: str) -> None:
    assert containers.shell("echo x > /written && cat /written").out == "x\n"
    assert "written" not in os.listdir(busybox_layer)


def test_layers_are_found_whatever_their_names_and_the_first_is_on_top(containers: Containers, tmp_path: Path) -> None:
    upper, lower = tmp_path / "a:b,c\\d e", tmp_path / "plain"
    for layer in (upper, lower):
        layer.mkdir()
        (layer / layer.name[:1]).write_text("")
        (layer / "both").write_text(layer.name)
    layers = (str(upper), str(lower), *containers.config.layers)
    assert containers.shell("cat /both; ls /a /p", layers=layers).out == f"{upper.name}/a\n/p\n"


def test_a_read_only_root_refuses_writes_but_dev_shm_takes_them(containers: Containers) -> None:
    outcome = containers.shell("touch /dev/shm/a && touch /b", read_only=True)
    assert outcome.code != 0
    assert "/b: Read-only file system" in outcome.err


@pytest.mark.parametrize("path", ["/proc/keys", "/proc/timer_list", "/proc/kcore", "/proc/interrupts"])
def test_masked_files_read_as_empty(containers: Containers, path: str) -> None:
    assert containers.shell(f"test -e {path} || exit 0; head -c 100 {path}").out == ""


def test_masked_directories_are_empty(containers: Containers) -> None:
    assert containers.shell("ls /proc/acpi /sys/firmware /proc/scsi 2>/dev/null | grep -v : ; true").out.strip() == ""


def test_read_only_paths_cannot_be_written(containers: Containers) -> None:
    outcome = containers.shell("echo 1 > /proc/sys/kernel/domainname")
    assert "Read-only file system" in outcome.err


def test_the_cgroup_directory_is_read_only_and_shows_the_own_cgroup(containers: Containers) -> None:
    outcome = containers.shell("cat /proc/self/cgroup; ls /sys/fs/cgroup >/dev/null && touch /sys/fs/cgroup/x")
    assert all(line.endswith(":/") for line in outcome.out.split())
    assert "Read-only file system" in outcome.err


def test_the_devices_are_dockers_and_a_disk_cannot_be_opened(containers: Containers) -> None:
    script = "ls /dev; head -c 1 /dev/zero | /bin/busybox od -An -tx1; mknod /tmp/disk b 254 0; cat /tmp/disk"
    outcome = containers.shell(script)
    names = {"core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout"}
    assert set(outcome.out.split()) == {*names, "tty", "urandom", "zero", "00"}
    assert "Operation not permitted" in outcome.err


def test_capabilities_are_dockers_within_the_hosts_bounding_set(containers: Containers) -> None:
    expected = capabilities.mask(defaults.CAPABILITIES) & capabilities.bounding_set()
    lines = containers.shell("cat /proc/self/status").out.splitlines()
    sets = {name: int(value, 16) for name, _, value in (line.partition(":\t") for line in lines) if name[:3] == "Cap"}
    assert sets == {"CapInh": 0, "CapPrm": expected, "CapEff": expected, "CapBnd": expected, "CapAmb": 0}


def test_capabilities_beyond_the_hosts_are_left_out_and_the_container_starts(containers: Containers) -> None:
    status = containers.shell("cat /proc/self/status", capabilities=capabilities.NAMES).out
    assert f"CapBnd:\t{capabilities.bounding_set():016x}" in status


@pytest.mark.needs("seccomp")
def test_the_system_call_filter_is_on_and_denies_with_eperm(containers: Containers) -> None:
    outcome = containers.shell(
        "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; unshare -U true".replace("grep", "/bin/busybox grep")
    )
    assert outcome.out.split() == ["NoNewPrivs:", "0", "Seccomp:", "2"]
    assert "Operation not permitted" in outcome.err
    assert outcome.code != 0


@pytest.mark.needs("seccomp")
def test_the_filter_holds_for_executed_programs_too(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    assert "Operation not permitted" in containers.exec(container_id, "/bin/unshare", "-U", "true").err
    status = containers.exec(container_id, "/bin/cat", "/proc/self/status").out
    assert "Seccomp:\t2" in status
    assert f"CapBnd:\t{capabilities.mask(defaults.CAPABILITIES) & capabilities.bounding_set():016x}" in status


def test_no_filter_is_no_filter(containers: Containers) -> None:
    assert "Seccomp:\t0" in containers.shell("cat /proc/self/status", seccomp="").out


def test_no_new_privileges_is_set_when_asked_for(containers: Containers) -> None:
    assert "NoNewPrivs:\t1" in containers.shell("cat /proc/self/status", no_new_privileges=True).out


def test_a_read_only_bind_is_read_only_below_as_well(containers: Containers, tmp_path: object) -> None:
    bind = Mount(destination="/host", type="bind", source=str(tmp_path), options=("rbind", "ro"))
    outcome = containers.shell("ls /host && touch /host/x", mounts=(bind,))
    assert "Read-only file system" in outcome.err


def test_a_bind_can_be_a_file_and_is_writable(containers: Containers, tmp_path: object) -> None:
    source = os.path.join(str(tmp_path), "file")
    with open(source, "w", encoding="utf-8") as file:
        file.write("before")
    bind = Mount(destination="/etc/file", type="bind", source=source, options=("rbind",))
    assert containers.shell("cat /etc/file; echo after > /etc/file", mounts=(bind,)).out == "before"
    with open(source, encoding="utf-8") as file:
        assert file.read() == "after\n"


def test_an_image_whose_proc_is_a_link_cannot_lead_out_of_the_root(containers: Containers, tmp_path: object) -> None:
    trap = os.path.join(str(tmp_path), "layer")
    outside = os.path.join(str(tmp_path), "outside")
    os.makedirs(trap)
    os.makedirs(outside)
    os.symlink(outside, os.path.join(trap, "proc"))
    os.symlink(outside, os.path.join(trap, "data"))
    bind = Mount(destination="/data/x", type="bind", source="/usr/share", options=("rbind",))
    with contextlib.suppress(StartFailed):  # refusing such an image is as good as containing it
        containers.run("/bin/cat", "/dev/null", layers=(trap, *containers.config.layers), mounts=(bind,))
    assert os.listdir(outside) == []


def test_only_the_loopback_is_there_and_it_is_up(containers: Containers) -> None:
    outcome = containers.shell("/bin/busybox ip -o link")
    assert len(outcome.out.splitlines()) == 1
    assert "LOOPBACK,UP" in outcome.out


def test_an_anonymous_volume_is_there_and_goes_with_the_container(containers: Containers) -> None:
    assert containers.shell("touch /data/x && ls /data", anonymous_volumes=("/data",)).out == "x\n"
