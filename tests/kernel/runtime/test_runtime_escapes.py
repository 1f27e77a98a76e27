"""Ways in which containers have been left before: each is tried here, and has to fail."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.container.spawner_client import StartFailed
from lab.container.spec.runtime import Mount
from lab.linux import capabilities

if TYPE_CHECKING:
    from conftest import Containers, Outcome

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

SECRET = "this is the host's"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file of the host whose content no container may ever see or change."""
    path = tmp_path / "host" / "secret"
    path.parent.mkdir()
    path.write_text(SECRET)
    return path


def _digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def _layers(containers: Containers, top: Path) -> tuple[str, ...]:
    return (str(top), *containers.config.layers)


def _try(containers: Containers, script: str, **changes: object) -> Outcome | None:
    """Run a script; None when the container was refused, which is as good."""
    with contextlib.suppress(StartFailed):
        return containers.shell(script, **changes)
    return None


# -- CVE-2019-5736: the engine's own program, by /proc/self/exe ------------------------------------------------------


@pytest.fixture
def interpreter_trap(tmp_path: Path) -> Path:
    """Return a layer whose dynamic loader is a program of the attacker, so that any dynamic program runs that."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    layer = tmp_path / "trap"
    (layer / "lib64").mkdir(parents=True)
    source = tmp_path / "loader.c"
    source.write_text(_LOADER)
    loader = layer / "lib64" / "ld-linux-x86-64.so.2"
    flags = ("-O1", "-nostdlib", "-static-pie", "-fPIE", "-ffreestanding", "-fno-stack-protector")
    subprocess.run(("gcc", *flags, "-o", loader, source), check=True)
    (layer / "entry").symlink_to("/proc/self/exe")
    return layer


_LOADER = r"""
static long call(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}
void _start(void) {
    /* prints the letter of 'a' - errno of opening our own program for writing, '!' if that works */
    long result = call(2, (long)"/proc/self/exe", 1 /* O_WRONLY */, 0);
    char letter = result < 0 ? 'a' - result : '!';
    call(1, 1, (long)&letter, 1);
    call(60, 0, 0, 0);
}
"""


def test_the_engines_own_program_cannot_be_opened_for_writing(containers: Containers, interpreter_trap: Path) -> None:
    program = os.path.realpath(sys.executable)
    before = _digest(program)
    try:
        outcome = containers.run("/entry", layers=_layers(containers, interpreter_trap))
    except StartFailed:
        return
    text_file_busy, read_only = chr(ord("a") + 26), chr(ord("a") + 30)
    assert outcome.out in (text_file_busy, read_only)
    assert _digest(program) == before


def test_the_engines_own_program_is_on_a_read_only_mount(containers: Containers) -> None:
    containers.start_sleeping()
    spawner = containers.engine.spawner_pid
    assert os.path.realpath(sys.executable).endswith(os.readlink(f"/proc/{spawner}/exe").rpartition("/")[2])
    assert os.statvfs(f"/proc/{spawner}/exe").f_flag & os.ST_RDONLY


# -- CVE-2024-21626: descriptors of the host, by working directory and program ---------------------------------------


@pytest.mark.parametrize("number", [*range(3, 20), 195, 196, 197, 198, 199, 200, 201])
def test_no_descriptor_is_a_way_to_the_host(containers: Containers, number: int) -> None:
    for up in ("", "/..", "/../../.."):
        outcome = _try(containers, "ls -a .", cwd=f"/proc/self/fd/{number}{up}")
        assert outcome is None or "var" not in outcome.out.split()


def test_an_executed_program_cannot_start_outside_either(containers: Containers) -> None:
    container_id, _ = containers.start_sleeping()
    for number in (*range(3, 20), 195, 196, 197, 198, 199):
        process = containers.engine.process(container_id, ("/bin/ls", "-a", "."))
        for cwd in (f"/proc/self/fd/{number}", f"/proc/self/fd/{number}/../../.."):
            with contextlib.suppress(StartFailed):
                assert "var" not in containers.exec(container_id, process=replace(process, cwd=cwd)).out.split()


def test_a_program_holds_no_descriptor_but_its_streams(containers: Containers) -> None:
    container_id, running = containers.start_sleeping()
    assert sorted(os.listdir(f"/proc/{running.pid}/fd")) == ["0", "1", "2"]
    assert containers.exec(container_id, "/bin/ls", "/proc/self/fd").out.split() == [
        "0",
        "1",
        "2",
        "3",
    ]  # 3 is ls's own


# -- CVE-2021-30465 and its kin: links where something is mounted -----------------------------------------------------


@pytest.mark.parametrize(
    "target", ["{host}", "../../../../../../../..{host}", "/proc/self/root/../..{host}", "/proc/1/root{host}"]
)
def test_a_bind_on_a_link_stays_inside(containers: Containers, tmp_path: Path, secret: Path, target: str) -> None:
    image, volume = tmp_path / "image", tmp_path / "volume"
    image.mkdir()
    volume.mkdir()
    (volume / "mine").touch()
    (image / "data").symlink_to(target.format(host=secret.parent))
    bind = Mount(destination="/data/inner", type="bind", source=str(volume), options=("rbind",))
    for pid in ("private", "host"):
        _try(containers, "ls /data/inner", layers=_layers(containers, image), mounts=(bind,), pid=pid)
        assert os.listdir(secret.parent) == ["secret"]


@contextmanager
def _swapping(path: Path, target: str) -> Iterator[None]:
    """Exchange a directory for a link and back, all the time, as another container with the same volume could."""
    stop = threading.Event()
    link, kept = path.with_name("link"), path.with_name("kept")
    link.symlink_to(target)

    def swap() -> None:
        while not stop.is_set():
            for source, destination in ((path, kept), (link, path), (path, link), (kept, path)):
                with contextlib.suppress(OSError):  # the engine makes what it does not find, meanwhile
                    os.rename(source, destination)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_a_volume_that_changes_under_a_mount_leads_nowhere(
    containers: Containers, tmp_path: Path, secret: Path
) -> None:
    volume, other = tmp_path / "volume", tmp_path / "other"
    (volume / "inner").mkdir(parents=True)
    other.mkdir()
    mounts = (
        Mount(destination="/volume", type="bind", source=str(volume), options=("rbind",)),
        Mount(destination="/volume/inner/deep", type="bind", source=str(other), options=("rbind",)),
    )
    with _swapping(volume / "inner", str(secret.parent)):
        for _ in range(30):
            outcome = _try(containers, "cat /volume/inner/secret /volume/inner/deep/secret", mounts=mounts)
            assert outcome is None or SECRET not in outcome.out
    assert os.listdir(secret.parent) == ["secret"]


def test_a_null_device_of_the_users_own_masks_nothing_with_his_file(containers: Containers, tmp_path: Path) -> None:
    devices = tmp_path / "dev"
    devices.mkdir()
    (devices / "null").symlink_to("/proc/sys/kernel/core_pattern")
    for name in ("pts", "shm", "mqueue"):
        (devices / name).mkdir()
    bind = Mount(destination="/dev", type="bind", source=str(devices), options=("rbind",))
    outcome = _try(containers, "cat /proc/keys; echo x > /proc/keys; cat /proc/keys", mounts=(bind,))
    assert outcome is None or outcome.out == ""


@pytest.mark.parametrize("directory", ["proc", "sys"])
def test_what_is_masked_cannot_be_moved_away_by_the_image(
    containers: Containers, tmp_path: Path, directory: str
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / directory).symlink_to("/elsewhere")
    assert _try(containers, "ls /elsewhere", layers=_layers(containers, tmp_path)) is None


def test_an_own_proc_cannot_be_mounted_without_its_masks(containers: Containers) -> None:
    outcome = containers.shell("mkdir /p; mount -t proc p /p; ls /p".replace("mkdir", "/bin/busybox mkdir"))
    assert "permission denied" in outcome.err.lower() or "not permitted" in outcome.err.lower()
    assert outcome.out == ""


# -- the kernel's own ways to run something on the host ----------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/sys/fs/cgroup/memory/release_agent",
        "/sys/fs/cgroup/pids/notify_on_release",
    ],
)
def test_no_file_of_the_kernel_that_names_a_program_can_be_written(containers: Containers, path: str) -> None:
    outcome = containers.shell(f"test -e {path} || exit 9; echo /x > {path}")
    assert outcome.code != 0
    assert "|/x" not in Path("/proc/sys/kernel/core_pattern").read_text()


def test_release_agents_cannot_be_reached_by_a_cgroup_mount_of_its_own(containers: Containers) -> None:
    script = "/bin/busybox mkdir /c; mount -t cgroup -o pids none /c; ls /c; mount -t cgroup2 none /c; ls /c"
    outcome = containers.shell(script)
    assert outcome.out == ""


def test_the_hosts_disk_cannot_be_opened(containers: Containers) -> None:
    disk = os.stat("/").st_dev
    script = f"mknod /tmp/disk b {os.major(disk)} {os.minor(disk)}; head -c 1 /tmp/disk && echo open"
    assert "open" not in containers.shell(script).out


def test_the_hosts_memory_and_ports_cannot_be_opened(containers: Containers) -> None:
    script = "for n in 1 2 4; do mknod /tmp/m$n c 1 $n; head -c 1 /tmp/m$n && echo open; done"
    assert "open" not in containers.shell(script, capabilities=capabilities.NAMES[:30]).out


def test_a_file_of_the_host_cannot_be_opened_by_its_handle(containers: Containers) -> None:
    # "shocker": open_by_handle_at needs CAP_DAC_READ_SEARCH, which is not among the defaults
    status = containers.run("/bin/cat", "/proc/self/status").out
    effective = int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)
    assert not effective & capabilities.mask(
        ("CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_PTRACE")
    )


def test_the_hosts_processes_cannot_be_seen_nor_traced(containers: Containers) -> None:
    assert containers.shell("cat /proc/1/cmdline; true").out.startswith("/bin/sh")
    script = f"ls /proc/{os.getpid()} 2>/dev/null && echo seen; ls /proc/1/root/"
    assert "seen" not in containers.shell(script).out


def test_the_root_cannot_be_left_by_a_second_chroot(containers: Containers) -> None:
    script = "/bin/busybox mkdir /a; /bin/busybox chroot /a /bin/true; cd ../../../../../..; ls"
    assert "var" not in containers.shell(script).out.split()


def test_a_joining_program_cannot_be_taken_over(containers: Containers) -> None:
    """CVE-2016-9962: from inside, try to open what a program that is being executed beside has, while it joins."""
    hunter = """
        while :; do
            for p in /proc/[0-9]*; do
                case $p in /proc/1|/proc/$$) continue;; esac
                ls -l $p/fd >> /found 2>/dev/null
                ls -d $p/root/var $p/cwd/var >> /found 2>/dev/null
            done
        done
    """
    container_id = containers.create("/bin/sh", "-c", hunter)
    containers.start(container_id)
    found = Path(containers.engine.state(container_id).upper, "found")
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        containers.exec(container_id, "/bin/cat", "/dev/null")
    text = found.read_text()
    assert not set(re.findall("-> (/.*)", text)) - {"/dev/null", "/found"}
    assert "/var" not in text
    containers.engine.delete(container_id, force=True)
