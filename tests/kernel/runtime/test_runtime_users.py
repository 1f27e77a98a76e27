"""A container whose root is nobody on the host."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lab.container.console import Pair
from lab.container.defaults import ContainerNetwork
from lab.container.options import users
from lab.container.spawner_client import StartFailed
from lab.container.spec.runtime import IdMapping, Mount

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("root"),
    pytest.mark.needs("overlay"),
    pytest.mark.needs("user-namespace"),
]

FIRST = 100_000
_MAPPINGS = users.mappings("private", subuid="", subgid="")
REMAPPED: dict[str, Any] = {"uid_mappings": _MAPPINGS.uid_mappings, "gid_mappings": _MAPPINGS.gid_mappings}


def test_root_inside_is_nobody_outside(containers: Containers) -> None:
    container_id, running = containers.start_sleeping(**REMAPPED)
    status = Path(f"/proc/{running.pid}/status").read_text()
    assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}" in status
    assert f"Gid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}" in status
    assert os.readlink(f"/proc/{running.pid}/ns/user") != os.readlink("/proc/self/ns/user")
    assert containers.exec(container_id, "/bin/id", "-u").out == "0\n"


def test_every_namespace_belongs_to_it(containers: Containers) -> None:
    script = "hostname changed && hostname; cat /proc/self/uid_map"
    outcome = containers.shell(script, capabilities=("CAP_SYS_ADMIN",), **REMAPPED)
    assert outcome.out.split() == ["changed", "0", str(FIRST), "65536"]


def test_the_images_files_are_its_own_and_what_it_writes_is_roots_on_disk(containers: Containers) -> None:
    container_id = containers.create(
        "/bin/sh", "-c", "ls -ln /bin/busybox; touch /mine; /bin/busybox chown 33:34 /mine; ls -ln /mine", **REMAPPED
    )
    outcome = containers.finish(container_id)
    assert [line.split()[2:4] for line in outcome.out.splitlines()] == [["0", "0"], ["33", "34"]]
    written = os.stat(os.path.join(containers.engine.state(container_id).upper, "mine"))
    assert (written.st_uid, written.st_gid) == (33, 34)


def test_directories_of_the_image_can_be_removed_and_made_anew(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").touch()
    layers = (str(tmp_path), *containers.config.layers)
    script = "/bin/busybox rm -r /old; /bin/busybox mkdir /old; ls -a /old; /bin/busybox rm /bin/ls; echo /bin/l*"
    outcome = containers.shell(script, layers=layers, **REMAPPED)
    assert outcome.out.split() == [".", "..", "/bin/l*"]
    assert (tmp_path / "old/file").exists()


def test_a_bind_shows_the_hosts_owners_as_the_containers(containers: Containers, tmp_path: Path) -> None:
    (tmp_path / "roots").touch()
    os.chown(tmp_path, 0, 0)
    bind = Mount(destination="/data", type="bind", source=str(tmp_path), options=("rbind",))
    outcome = containers.shell("ls -ln /data; touch /data/new", mounts=(bind,), **REMAPPED)
    assert outcome.out.split()[4:6] == ["0", "0"]
    assert (tmp_path / "new").stat().st_uid == 0


def test_devices_proc_and_terminal_files_work(containers: Containers) -> None:
    script = "echo x > /dev/null && head -c 2 /dev/zero | /bin/busybox wc -c; cat /proc/1/comm; ls /sys/class/net"
    outcome = containers.shell(script, **REMAPPED)
    assert outcome.err == ""
    assert outcome.out.split()[:3] == ["2", "sh", "lo"]


@pytest.mark.parametrize("user", ["0", "5"])
def test_its_output_can_be_opened_by_its_own_users(containers: Containers, user: str) -> None:
    assert containers.shell("echo there > /dev/stdout", user=user, **REMAPPED).out == "there\n"


def test_another_user_inside_is_yet_another_outside(containers: Containers) -> None:
    _, running = containers.start_sleeping(user="33:34", **REMAPPED)
    assert f"Uid:\t{FIRST + 33}\t" in Path(f"/proc/{running.pid}/status").read_text()


def test_no_device_can_be_made_and_no_file_of_the_host_be_changed(containers: Containers, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("mine")
    os.chown(secret, 0, 0)
    secret.chmod(0o600)
    outcome = containers.shell("mknod /tmp/d c 1 3; echo 1 > /proc/sysrq-trigger", **REMAPPED)
    assert "Operation not permitted" in outcome.err
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_masks_cannot_be_taken_off_even_by_one_who_may_mount(containers: Containers) -> None:
    script = "/bin/busybox umount /proc/keys; cat /proc/keys; mount -t proc p /tmp && cat /tmp/keys"
    outcome = containers.shell(script, capabilities=("CAP_SYS_ADMIN",), seccomp="", **REMAPPED)
    assert outcome.out == ""


def test_what_cannot_be_mapped_is_said(containers: Containers) -> None:
    twice = (IdMapping(container_id=0, host_id=1, size=5), IdMapping(container_id=2, host_id=9, size=5))
    with pytest.raises(StartFailed, match=r"await mapping.*uid_map: Invalid argument"):
        containers.shell("true", uid_mappings=twice, gid_mappings=twice)


def test_a_terminal_belongs_to_the_containers_root(containers: Containers) -> None:
    container_id = containers.create("/bin/ls", "-ln", "/dev/console", terminal=True, **REMAPPED)
    with Pair() as pair:
        running = containers.engine.start(container_id, stdio=pair.stdio)
        master = pair.receive()
    try:
        assert running.wait() == 0
        assert os.read(master, 4096).split()[2:4] == [b"0", b"5"]
    finally:
        os.close(master)


def test_it_can_be_connected_to_a_bridge(containers: Containers) -> None:
    script = "/bin/busybox ip -o -4 addr show eth0; /bin/busybox ping -c 1 -W 5 127.0.0.1"
    outcome = containers.shell(script, network=ContainerNetwork.BRIDGE, **REMAPPED)
    containers.engine.release_network()
    assert "inet " in outcome.out
    assert "1 packets received" in outcome.out


def test_it_can_be_on_the_hosts_network(containers: Containers) -> None:
    script = "/bin/busybox readlink /proc/self/ns/net; ls /sys/class/net; echo x > /sys/class/net/lo/mtu"
    outcome = containers.shell(script, network_namespace="host", **REMAPPED)
    assert outcome.out.split() == [os.readlink("/proc/self/ns/net"), *sorted(os.listdir("/sys/class/net"))]
    assert "Read-only file system" in outcome.err
