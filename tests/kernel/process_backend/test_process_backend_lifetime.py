"""The arm "process" beyond the contract: what it mounts is private, what a killed command left is removed."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import mount_points_below
from lab.errors import ImageNotFound, TargetError, TargetTimeout
from lab.linux import command, mount
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.backends.process import ProcessBackend, ProcessTarget
from lab.target.spec import Command, MarkName, TargetSpec, Volume

pytestmark = [pytest.mark.root, pytest.mark.needs("process")]

PARENT = f"lab/process-{os.getpid()}"
SHELL = ("/bin/busybox", "sh", "-c")
READY = Command(argv=(*SHELL, "trap 'exit 0' TERM; echo ready; /bin/busybox sleep 1000000 & wait $!"))

Provision = Callable[..., ProcessTarget]


@pytest.fixture(scope="module")
def root() -> Iterator[Paths]:
    """A root with the busybox image, for the whole file."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix="lab-test-") as directory:
        found = Paths.under(directory)
        bootstrap(ImageStore.open(found), BaseImage.BUSYBOX, progress=lambda _: None)
        yield found


@pytest.fixture
def backend(root: Paths) -> Iterator[ProcessBackend]:
    opened = ProcessBackend(root)
    yield opened
    opened.close()
    layout = cgroups.detect()
    cgroups.remove(layout, PARENT, deadline_ns=time.monotonic_ns() + 10**10)


@pytest.fixture
def marks() -> list[MarkName]:
    return []


@pytest.fixture
def provision(backend: ProcessBackend, root: Paths, marks: list[MarkName]) -> Iterator[Provision]:
    made: list[ProcessTarget] = []

    def provide(**changes: object) -> ProcessTarget:
        image = ImageStore.open(root).resolve("busybox").manifest_digest
        fields: dict[str, object] = {"image": image, "command": READY, "cgroup_parent": PARENT}
        spec = TargetSpec(name=f"lab-p-{uuid.uuid4().hex[:8]}", **(fields | changes))  # type: ignore[arg-type]
        target = backend.provision(spec, lambda name, _: marks.append(name))
        made.append(target)
        return target

    yield provide
    for target in made:
        target.destroy()


def told(target: ProcessTarget, script: str) -> str:
    done = target.exec(Command(argv=(*SHELL, script)))
    assert done.exit_code == 0, done
    return done.stdout.decode().strip()


def remains(root: Paths) -> tuple[list[str], tuple[str, ...]]:
    return sorted(os.listdir(root.processes)), mount_points_below(root.processes)


def test_its_marks_are_those_of_a_process(provision: Provision, marks: list[MarkName]) -> None:
    target = provision()
    target.start()
    target.stop()
    assert marks == [
        MarkName.SPAWNED,
        MarkName.ENVIRONMENT,
        MarkName.USERSPACE,
        MarkName.READY,
        MarkName.GONE,
    ]


def test_it_has_the_hosts_namespaces_and_the_images_root(provision: Provision) -> None:
    target = provision()
    target.start()
    for kind in ("pid", "net", "mnt", "uts", "ipc", "user"):
        assert told(target, f"readlink /proc/self/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")
    assert told(target, "echo x >/dev/null; ls /") == "\n".join(sorted(told(target, "ls -1 /").split()))
    assert "busybox" in told(target, "ls /bin")
    assert told(target, "ls /sys/kernel >/dev/null && echo shown") == "shown"


def test_nothing_is_mounted_before_the_start_nor_after_the_stop(provision: Provision, root: Paths) -> None:
    target = provision()
    assert remains(root)[1] == ()
    target.start()
    assert len(remains(root)[1]) == 4
    target.stop()
    assert remains(root)[1] == ()
    target.destroy()
    assert remains(root) == ([], ())


def test_it_can_be_started_again_with_what_it_wrote(provision: Provision) -> None:
    target = provision()
    target.start()
    told(target, "echo kept >/written")
    target.stop()
    target.start()
    assert told(target, "cat /written") == "kept"


def test_stop_and_destroy_are_safe_to_call_twice(provision: Provision, marks: list[MarkName]) -> None:
    target = provision()
    target.start()
    for _ in range(2):
        target.stop()
        target.destroy()
    assert marks.count(MarkName.GONE) == 1


def test_the_scratch_directory_is_at_data_and_fresh(provision: Provision) -> None:
    target = provision(scratch_bytes=1024 * 1024)
    target.start()
    assert told(target, "ls -A /data; echo x >/data/file; cat /data/file") == "x"


def test_a_mount_of_the_host_below_a_volume_outlives_the_target(provision: Provision, tmp_path: Path) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=64k")
    mount.mount("", str(tmp_path), "", mount.MS_SHARED, "")
    try:
        inner.mkdir()
        mount.mount("tmpfs", str(inner), "tmpfs", 0, "size=64k")
        (inner / "precious").write_text("x")
        target = provision(volumes=(Volume(source=str(tmp_path), path="/deep/er", read_only=True),))
        target.start()
        assert told(target, "cat /deep/er/inner/precious; touch /deep/er/inner/y 2>/dev/null || echo read-only") == (
            "xread-only"
        )
        target.destroy()
        assert (inner / "precious").read_text() == "x"
    finally:
        mount.umount2(str(inner), 0)
        mount.umount2(str(tmp_path), 0)


def test_a_link_in_the_image_leads_no_volume_outside(provision: Provision, tmp_path: Path) -> None:
    victim, source = tmp_path / "victim", tmp_path / "source"
    victim.mkdir()
    source.mkdir()
    target = provision(volumes=(Volume(source=str(source), path="/link/x"),))
    upper = Path(target._root.path, "upper")  # stands for an image with such a link
    (upper / "link").symlink_to(victim)
    (source / "file").write_text("x")
    target.start()
    assert told(target, f"cat /link/x/file {victim}/x/file") == "xx"  # as docker does: below the target's own root
    assert os.listdir(victim) == []


def test_a_command_that_ends_at_once_is_an_error_with_its_last_lines(provision: Provision, root: Paths) -> None:
    target = provision(command=Command(argv=(*SHELL, "echo broken >&2; exit 3")))
    with pytest.raises(TargetError, match="code 3"):
        target.start()
    assert remains(root)[1] == ()


def test_a_command_that_is_not_there_is_an_error(provision: Provision, root: Paths) -> None:
    target = provision(command=Command(argv=("/no/such/program",)))
    with pytest.raises(TargetError, match="/no/such/program"):
        target.start()
    assert remains(root)[1] == ()
    assert target.footprint().pids == ()


def test_a_command_that_is_never_ready_is_a_timeout(provision: Provision, root: Paths) -> None:
    target = provision(command=Command(argv=(*SHELL, "sleep 1000")), start_timeout_ns=300_000_000)
    with pytest.raises(TargetTimeout, match="no ready byte"):
        target.start()
    assert remains(root)[1] == ()


def test_a_start_that_fails_keeps_no_descriptor(provision: Provision) -> None:
    target = provision(command=Command(argv=(*SHELL, "exit 3")))

    def fail() -> int:
        with pytest.raises(TargetError, match="ended with code 3"):
            target.start()
        return len(os.listdir("/proc/self/fd"))

    fail()  # the first one starts what all share
    before = fail()
    assert eventually(lambda: fail() <= before)


def test_a_spawner_that_dies_before_the_ready_byte_is_told_as_a_failed_start(
    provision: Provision, marks: list[MarkName]
) -> None:
    target = provision(command=Command(argv=(*SHELL, "sleep 1000")))
    errors: list[BaseException] = []

    def start() -> None:
        try:
            target.start()
        except TargetError as error:
            errors.append(error)

    thread = threading.Thread(target=start)
    thread.start()
    assert eventually(lambda: MarkName.USERSPACE in marks)
    spawner = dict(target.footprint().shared_daemons)["spawner"]
    os.kill(spawner, signal.SIGKILL)
    thread.join()
    (error,) = errors
    assert "spawner has ended" in str(error)
    assert target.footprint().pids == ()


def eventually(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def test_one_that_ignores_the_signal_is_killed_with_its_children(provision: Provision) -> None:
    script = "trap '' TERM; (trap '' TERM; /bin/busybox setsid sleep 1000) & echo ready; while :; do sleep 1; done"
    target = provision(command=Command(argv=(*SHELL, script)))
    target.start()
    pids = target.footprint().pids
    assert len(pids) >= 2
    target.stop()
    assert target.footprint().pids == ()
    assert not any(os.path.exists(f"/proc/{pid}/root/bin/busybox") for pid in pids)


def test_an_unknown_image_is_told_and_leaves_nothing(backend: ProcessBackend, root: Paths) -> None:
    spec = TargetSpec(name="lab-p-unknown", image=f"sha256:{'0' * 64}", command=READY, cgroup_parent=PARENT)
    with pytest.raises(ImageNotFound):
        backend.provision(spec, lambda _name, _at_ns: None)
    assert not os.path.exists(os.path.join(root.processes, spec.name))


START_AND_HANG = """
import sys, time
from lab.container.image.store import ImageStore
from lab.paths import Paths
from lab.target.backends.process import ProcessBackend
from lab.target.spec import Command, TargetSpec

paths = Paths.under(sys.argv[1])
image = ImageStore.open(paths).resolve("busybox").manifest_digest
ready = Command(argv=("/bin/busybox", "sh", "-c", "echo ready; exec /bin/busybox sleep 1000000"))
spec = TargetSpec(name="lab-p-killed", image=image, command=ready, cgroup_parent=sys.argv[2])
target = ProcessBackend(paths).provision(spec, lambda name, at_ns: None)
target.start()
print("started", flush=True)
time.sleep(1000)
"""


def test_what_a_killed_command_left_is_removed_by_the_next(provision: Provision, root: Paths) -> None:
    killed = command.spawn([sys.executable, "-c", START_AND_HANG, root.root, PARENT], stdout=command.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"started\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert "lab-p-killed" in remains(root)[0]
    target = provision()
    assert [name for name in remains(root)[0] if not name.endswith(".lock")] == [target.spec.name]
    assert remains(root)[1] == ()
    assert cgroups.directories(cgroups.detect(), f"{PARENT}/lab-p-killed") == ()


def test_what_a_living_command_has_is_left_alone(provision: Provision, backend: ProcessBackend) -> None:
    target = provision()
    target.start()
    backend.repair()
    assert told(target, "echo alive") == "alive"
