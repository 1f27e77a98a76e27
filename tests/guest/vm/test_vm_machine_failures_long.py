"""What goes wrong with machines: each has its clear error, and leaves nothing.

That nothing is left of processes, mounts, links, cgroups and files is seen after each test by tests/leftovers.py; that
no machine, volume or socket is left, here.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.linux import command, mount
from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("vm-tcg")]

LOOP = ("sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done")
_DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def root(paths: Paths, image: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root of its own, whose images and caches are this machine's: making them anew would take a minute."""
    found = Path(tmp_path_factory.mktemp("r"))
    for name in ("images", "layers"):
        (found / name).symlink_to(Path(paths.root, name))
    (found / "cache").symlink_to(paths.cache)
    return found


@pytest.fixture(autouse=True)
def nothing_is_left_of_machines(root: Path) -> Iterator[None]:
    yield
    assert lab(root, "vm", "ls", "-aq").text == ""
    for parent in (root / "machines", root / "run" / "machines"):
        left = [path.name for path in parent.rglob("*") if path.name != ".names"] if parent.exists() else []
        assert left == []


def argv(root: Path, *words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "lab", "--root", str(root), *words)


def lab(root: Path, *words: str, env: dict[str, str] | None = None) -> command.Completed:
    return command.run(argv(root, *words), env=env, timeout_s=_DEADLINE_S)


@contextmanager
def running(root: Path, image: str, *flags: str) -> Iterator[dict[str, object]]:
    """Give what is known of a machine that runs; it is removed."""
    started = lab(root, "vm", "run", "-d", "--network", "none", *flags, image, *LOOP)
    assert started.exit_code == 0, started.error_text
    try:
        yield described(root, started.text)
    finally:
        lab(root, "vm", "rm", "-f", started.text)


def described(root: Path, machine_id: str) -> dict[str, object]:
    (document,) = json.loads(lab(root, "vm", "inspect", machine_id).text)
    found: dict[str, object] = document
    return found


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def keeper_of(machine_id: str) -> int:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if machine_id.encode() in words and b"-I" in words:
            return int(path.parent.name)
    raise AssertionError(f"machine {machine_id} has no keeper")


# -- before it runs ----------------------------------------------------------------------------------------------------


def test_without_qemu_it_is_said_what_to_install(root: Path, image: str, tmp_path: Path) -> None:
    for name in ("qemu-img", "sh"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    done = lab(root, "vm", "run", "--rm", image, "true", env={**os.environ, "PATH": str(tmp_path)})
    assert done.exit_code == 3
    assert "qemu-system-x86_64 is missing" in done.error_text
    assert "try: apt install qemu-system-x86" in done.error_text


def test_without_libvirts_daemon_its_socket_is_named(root: Path, image: str) -> None:
    uri = f"qemu:///system?socket={root}/none"
    done = lab(root, "vm", "run", "--rm", "--connect", uri, image, "true")
    assert done.exit_code == 3
    assert f"cannot open {uri}" in done.error_text
    assert "Failed to connect socket" in done.error_text


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("-m", "64m"), "64.0 MiB of memory does not boot"),
        (("-m", "1000g"), "cannot set up guest memory"),
        (("--cpus", "1.5"), "whole processors"),
        (("--boot-timeout", "300ms"), "did not reach its main command within"),
        (("--accelerator", "tcg", "--machine", "microvm", "--cpus", "2"), "microvm with 2 processors"),
        (("--user", "nobody-here"), "unable to find user nobody-here"),
        (("-v", "/etc/hostname:/x"), "/etc/hostname is none"),
    ],
)
def test_what_cannot_be_is_said(root: Path, image: str, flags: tuple[str, ...], message: str) -> None:
    done = lab(root, "vm", "run", "--rm", "--network", "none", *flags, image, "true")
    assert done.exit_code in (3, 125)
    assert message in done.error_text


def test_without_dev_net_tun_a_link_cannot_be_had(root: Path, image: str) -> None:
    words = argv(root, "vm", "run", "--rm", "--network", "tap", image, "true")
    hidden = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /dev/net && exec "$@"', "sh", *words)
    done = command.run(hidden, timeout_s=_DEADLINE_S)
    assert done.exit_code == 3
    assert "/dev/net/tun is missing" in done.error_text
    assert "--network user" in done.error_text


def test_a_kernel_without_virtio_is_refused(root: Path, tmp_path: Path, paths: Paths) -> None:
    (version,) = {path.parent for path in Path(paths.guest_kernels).glob("*/bzimage")} or pytest.fail("no guest kernel")
    modules = tmp_path / "1.2.3-bare"
    modules.mkdir()
    (modules / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    done = lab(tmp_path, "vm", "kernel", "import", str(version / "bzimage"), str(modules))
    assert done.exit_code == 3
    assert "virtio" in done.error_text
    assert lab(tmp_path, "vm", "kernel", "ls", "-q").text == ""


def test_a_full_disk_has_no_room_for_a_machine(root: Path, image: str, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    mount.mount("none", str(full), "tmpfs", 0, "size=64k")
    try:
        for name in ("images", "layers", "cache"):
            (full / name).symlink_to((root / name).resolve())
        done = lab(full, "vm", "run", "--rm", image, "true")
    finally:
        mount.umount2(str(full), 0)
    assert done.exit_code not in (0, 3)
    assert "No space left on device" in done.error_text


def test_a_disk_that_becomes_full_ends_the_machine_and_is_told(
    root: Path, image: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    small = tmp_path_factory.mktemp("s")  # sockets below it have short names
    mount.mount("none", str(small), "tmpfs", 0, "size=4m")
    try:
        for name in ("images", "layers", "cache"):
            (small / name).symlink_to((root / name).resolve())
        words = ("sh", "-c", "echo begun; dd if=/dev/zero of=/big bs=1M count=64 && sync; echo never; sleep 100")
        done = lab(small, "vm", "run", "--rm", "--network", "none", image, *words)
        assert (done.exit_code, done.text) == (137, "begun"), done.error_text
        assert "QEMU stopped the guest" in done.error_text
        assert "is the host's disk full?" in done.error_text
        assert lab(small, "vm", "ls", "-aq").text == ""
    finally:
        mount.umount2(str(small), 0)


def test_a_damaged_disk_is_named(root: Path, image: str) -> None:
    with running(root, image) as machine:
        lab(root, "vm", "destroy", str(machine["Id"]))
        disk = Path(str(machine["Directory"]), "root.qcow2")
        disk.write_bytes(b"no disk at all" + bytes(70_000))
        done = lab(root, "vm", "start", str(machine["Id"]))
        assert done.exit_code == 1
        assert "root.qcow2" in done.error_text
        disk.unlink()
        assert "root.qcow2 is gone" in lab(root, "vm", "start", str(machine["Id"])).error_text


# -- while it runs -----------------------------------------------------------------------------------------------------


def test_a_panic_ends_the_machine_and_is_told(root: Path, image: str) -> None:
    words = ("sh", "-c", "echo before; echo c > /proc/sysrq-trigger; sleep 100")
    done = lab(root, "vm", "run", "--rm", "--network", "none", image, *words)
    assert (done.exit_code, done.text) == (137, "before")
    assert "its kernel panicked: sysrq triggered crash" in done.error_text


def test_a_killed_qemu_ends_the_machine_and_is_told(root: Path, image: str) -> None:
    with running(root, image) as machine:
        os.kill(int(str(machine["State"]["Pid"])), signal.SIGKILL)  # type: ignore[index]  # a JSON object
        machine_id = str(machine["Id"])
        until(lambda: not described(root, machine_id)["State"]["Running"], "its end")  # type: ignore[index]  # see above
        state = described(root, machine_id)["State"]
        assert state["ExitCode"] == 137  # type: ignore[index]  # see above
        assert "QEMU ended with exit code 137" in state["Error"]  # type: ignore[index]  # see above


def test_what_a_killed_keeper_leaves_is_put_away_by_the_next_command(root: Path, image: str) -> None:
    with running(root, image) as machine:
        machine_id, vmm = str(machine["Id"]), int(str(machine["State"]["Pid"]))  # type: ignore[index]  # a JSON object
        os.kill(keeper_of(machine_id), signal.SIGKILL)
        rows = lab(root, "vm", "ls", "-a", "--format", "{{.ID}} {{.Status}}").text
        assert rows.startswith(f"{machine_id[:12]} Exited (137)")
        assert "its keeper was killed" in rows
        assert not is_alive(vmm)
        assert lab(root, "vm", "start", machine_id).exit_code == 0


@pytest.mark.parametrize("after_s", [0.4, 1.2, 2.5])
def test_ctrl_c_at_any_time_leaves_nothing(root: Path, image: str, after_s: float) -> None:
    """Until the main command runs it ends this command, which takes the machine along; then it is that one's."""
    words = argv(root, "vm", "run", "--rm", "--network", "none", image, *LOOP)
    process = command.spawn(words, start_new_session=True)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(_DEADLINE_S) == 130


# -- with a daemon of libvirt's ----------------------------------------------------------------------------------------

_DAEMON_CONF = 'unix_sock_dir = "{directory}"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n'
_QEMU_CONF = """
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
seccomp_sandbox = 0
"""
_HIDDEN = ("/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt")
_SERVE = """
for place in {places}; do mkdir -p $place && mount -t tmpfs none $place || exit 1; done
cp {directory}/qemu.conf /etc/libvirt/qemu.conf
exec libvirtd -f {directory}/libvirtd.conf -p {directory}/pid
"""


@contextmanager
def libvirtd(directory: Path) -> Iterator[command.Process]:
    """Serve libvirt's system daemon in a mount namespace of its own: nothing of the host's is read or written."""
    (directory / "libvirtd.conf").write_text(_DAEMON_CONF.format(directory=directory))
    (directory / "qemu.conf").write_text(_QEMU_CONF)
    script = _SERVE.format(places=" ".join(_HIDDEN), directory=directory)
    process = command.spawn(("unshare", "-m", "sh", "-c", script), start_new_session=True)
    try:
        until(lambda: (directory / "libvirt-sock").exists(), "the daemon's socket")
        yield process
    finally:
        process.terminate()
        process.wait(_DEADLINE_S)


@pytest.mark.skipif(not os.path.exists("/usr/sbin/libvirtd"), reason="libvirtd is not installed")
def test_a_machine_outlives_the_daemon_that_started_it(root: Path, image: str, tmp_path: Path) -> None:
    uri = f"qemu:///system?socket={tmp_path}/libvirt-sock"
    name = f"lab-of-daemon-{os.getpid()}"
    with libvirtd(tmp_path) as daemon:

        def inside(*words: str) -> command.Completed:
            entered = ("nsenter", "-m", "-t", str(daemon.pid), *argv(root, *words))
            return command.run(entered, timeout_s=_DEADLINE_S)

        started = inside("vm", "run", "-d", "--name", name, "--network", "none", "--connect", uri, image, *LOOP)
        try:
            assert started.exit_code == 0, started.error_text
            assert started.text[:12] in inside("vm", "ls", "--connect", uri, "--format", "{{.Names}} {{.State}}").text
            daemon.kill()
            daemon.wait(_DEADLINE_S)
            assert lab(root, "vm", "exec", name, "echo", "still here").text == "still here"
            assert lab(root, "vm", "shutdown", name).exit_code == 0
            assert lab(root, "vm", "inspect", "-f", "{{.State.ExitCode}}", name).text == "0"
        finally:
            lab(root, "vm", "rm", "-f", name)
