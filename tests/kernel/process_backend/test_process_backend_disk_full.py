"""A full disk under a target: whoever writes is told, whoever lays out is told, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import uuid
from collections.abc import Iterator

import pytest

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import mount_points_below
from lab.errors import TargetError
from lab.linux import mount
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.protocol import Backend, Closing, Target
from lab.target.registry import open_backend
from lab.target.spec import Command, TargetSpec

pytestmark = pytest.mark.root

PARENT = f"lab/full-{os.getpid()}"
SHELL = ("/bin/busybox", "sh", "-c")
READY = Command(argv=(*SHELL, "trap 'exit 0' TERM; echo ready; /bin/busybox sleep 1000000 & wait $!"))
_SIZE = "16m"
_NO_SPACE = "No space left on device"


@pytest.fixture
def small_root() -> Iterator[Paths]:
    """A root with the busybox image on a file system of 16 MiB."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as directory:
        mount.mount("tmpfs", directory, "tmpfs", 0, f"size={_SIZE}")
        try:
            paths = Paths.under(directory)
            bootstrap(ImageStore.open(paths), BaseImage.BUSYBOX, progress=lambda _: None)
            yield paths
        finally:
            mount.umount2(directory, 0)


ARMS = [pytest.param(name, marks=pytest.mark.needs(name)) for name in ("process", "container", "runc")]


@pytest.fixture(params=ARMS)
def backend(request: pytest.FixtureRequest, small_root: Paths) -> Iterator[Backend]:
    opened = open_backend(request.param, small_root)
    yield opened
    assert isinstance(opened, Closing)
    opened.close()
    cgroups.remove(cgroups.detect(), PARENT, deadline_ns=time.monotonic_ns() + 10**10)


def spec_in(paths: Paths) -> TargetSpec:
    image = ImageStore.open(paths).resolve("busybox").manifest_digest
    return TargetSpec(name=f"lab-f-{uuid.uuid4().hex[:8]}", image=image, command=READY, cgroup_parent=PARENT)


def fill(paths: Paths) -> str:
    path = os.path.join(paths.root, "ballast")
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):  # the one that says it is full
        while file.write(bytes(4096)):
            pass
    assert os.statvfs(path).f_bavail == 0
    return path


def outcome(target: Target) -> str:
    try:
        return str(target.exec(Command(argv=(*SHELL, "exit 3"))).exit_code)
    except TargetError as error:
        return _NO_SPACE.lower() if _NO_SPACE.lower() in str(error).lower() else str(error)


def traces(paths: Paths, name: str) -> list[str]:
    found = [
        entry for place in (paths.containers, paths.processes) if os.path.isdir(place) for entry in os.listdir(place)
    ]
    return [entry for entry in (*found, *mount_points_below(paths.root)) if name in entry]


def test_a_program_that_fills_the_disk_is_told_and_the_target_lives_on(backend: Backend, small_root: Paths) -> None:
    target = backend.provision(spec_in(small_root), lambda _name, _at_ns: None)
    try:
        target.start()
        script = (
            "/bin/busybox dd if=/dev/zero of=/big bs=64k || { /bin/busybox rm /big && /bin/busybox echo on >/small; }"
        )
        done = target.exec(Command(argv=(*SHELL, script)))
        assert (done.exit_code, _NO_SPACE in done.stderr.decode()) == (0, True)
        assert target.exec(Command(argv=("/bin/busybox", "cat", "/small"))).stdout == b"on\n"
    finally:
        target.destroy()
    assert traces(small_root, target.spec.name) == []


def test_what_cannot_be_executed_because_the_disk_is_full_is_an_error_or_runs(
    backend: Backend, small_root: Paths
) -> None:
    target = backend.provision(spec_in(small_root), lambda _name, _at_ns: None)
    try:
        target.start()
        ballast = fill(small_root)
        assert outcome(target) in ("3", "no space left on device")  # some arms need no disk for it
        os.unlink(ballast)
        assert target.exec(Command(argv=(*SHELL, "exit 3"))).exit_code == 3
    finally:
        target.destroy()


def test_a_full_disk_can_be_stopped_and_removed_from(backend: Backend, small_root: Paths) -> None:
    target = backend.provision(spec_in(small_root), lambda _name, _at_ns: None)
    target.start()
    target.exec(Command(argv=(*SHELL, "/bin/busybox dd if=/dev/zero of=/big bs=64k")))
    target.stop()
    target.destroy()
    assert traces(small_root, target.spec.name) == []


def test_what_cannot_be_laid_out_on_a_full_disk_says_so_and_leaves_nothing(backend: Backend, small_root: Paths) -> None:
    wanted = spec_in(small_root)
    backend.provision(wanted, lambda _name, _at_ns: None).destroy()  # layers and the like are there now
    ballast = fill(small_root)
    with pytest.raises(TargetError, match=_NO_SPACE) as caught:
        backend.provision(wanted, lambda _name, _at_ns: None).start()
    assert caught.value.phase in ("provision", "start")
    os.unlink(ballast)
    again = backend.provision(wanted, lambda _name, _at_ns: None)  # the name is free
    again.start()
    again.destroy()
    assert traces(small_root, wanted.name) == []
