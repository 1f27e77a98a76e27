"""A container's files as archives and images: sparse files, hard links, full disks, what was replaced."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.containers.conftest import Lab, wait_until

from lab.linux import mount
from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]
_MIB = 1 << 20


def _export(lab: Lab) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(lab.begin("export", "cc").communicate()[0]))


def test_an_image_has_what_its_container_had_and_nothing_of_what_it_had_removed(lab: Lab) -> None:
    script = "rm /etc/passwd; rm -r /var; mkdir /var; echo x > /var/f; ln /var/f /var/h; mkfifo /p; chown 5:6 /var/f"
    lab.ok("run", "--name", "cc", "busybox", "sh", "-c", script)
    before = _entries(lab, "cc")
    lab.ok("commit", "cc", "again")
    lab.ok("create", "--name", "dd", "again", "true")
    after = _entries(lab, "dd")
    lab.ok("rm", "cc", "dd")
    lab.ok("rmi", "again")
    assert after == before
    assert "etc/passwd" not in after


def _entries(lab: Lab, name: str) -> dict[str, tuple[bytes, int, int, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(lab.begin("export", name).communicate()[0])) as tar:
        return {each.name: (each.type, each.mode, each.uid, each.gid, each.size) for each in tar}


@pytest.fixture
def small(lab_root: Lab) -> Iterator[Lab]:
    """Return a root with the busybox image on a file system of 24 MiB."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as directory:
        mount.mount("tmpfs", directory, "tmpfs", 0, "size=24m")
        lab = Lab(Paths.under(directory))
        try:
            lab.ok("load", data=lab_root.begin("save", "busybox").communicate()[0])
            yield lab
        finally:
            lab("rm", "-f", *lab.ids())
            for pid in lab.spawners():
                os.kill(pid, 9)
            wait_until(lambda: not lab.spawners() and not lab.aftermaths())
            mount.umount2(directory, 0)


def test_a_full_disk_ends_a_copy_and_a_commit_with_the_reason_and_the_store_stays_whole(
    small: Lab, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(os.urandom(40 * _MIB))
    small.ok("create", "--name", "cc", "busybox", "echo", "works")
    done = small("cp", str(tmp_path / "large"), "cc:/large")
    assert (done.code, "No space left on device" in done.err, "Traceback" in done.err) == (1, True, False)
    small.ok("rm", "cc")
    (tmp_path / "large").write_bytes(os.urandom(14 * _MIB))
    small.ok("create", "--name", "cc", "busybox", "echo", "works")
    small.ok("cp", str(tmp_path / "large"), "cc:/large")
    done = small("commit", "cc", "new")
    assert (done.code, "No space left on device" in done.err, "Traceback" in done.err) == (1, True, False)
    assert small.ok("images", "--format", "{{.Repository}}") == "busybox"
    small.ok("rm", "cc")
    small.ok("run", "--name", "cc", "busybox", "echo", "works")
    small.ok("commit", "cc", "new")


def test_a_full_disk_ends_an_export_with_the_reason(lab: Lab) -> None:
    lab.ok("create", "--name", "cc", "busybox", "true")
    done = lab("export", "-o", "/dev/full", "cc")
    assert (done.code, "No space left on device" in done.err, "Traceback" in done.err) == (1, True, False)
