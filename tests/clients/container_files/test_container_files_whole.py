"""A container's files as archives and images: sparse files, hard links, full disks, what was replaced."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel.containers.conftest import Lab, wait_until

from lab.container.storage.trees import remove_tree
from lab.container.storage.walk import walk
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


_CHURN = """
i=0
while :; do
    i=$((i + 1)); d=/churn/$((i % 7)); f=$d/$((i % 13)); mkdir -p $d
    case $((i % 9)) in
        0) dd if=/dev/zero of=$f bs=1k count=$((i % 900)) 2>/dev/null ;;
        1) truncate -s $((i % 500))k $f ;;
        2) : > $f ;;
        3) rm -rf $f; mkdir $f; : > $f/in ;;
        4) rm -rf $f; ln -s /etc/passwd $f ;;
        5) rm -rf $f; echo $i > $f; ln $f $f-linked$i ;;
        6) mv $d /churn/moved; rm -rf /churn/moved ;;
        7) dd if=/dev/zero of=$f bs=1k count=300 2>/dev/null; truncate -s 2 $f ;;
        8) rm -f $f ;;
    esac 2>/dev/null
done
"""


def test_what_is_written_and_removed_meanwhile_breaks_no_archive(lab: Lab, tmp_path: Path) -> None:
    lab.ok("run", "-d", "--name", "cc", "busybox", "sh", "-c", _CHURN)
    for words in (("export", "cc"), ("cp", "cc:/churn", "-")) * 15:
        archive, errors = lab.begin(*words).communicate()
        assert errors == b""
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            lengths = [(each.size, len(tar.extractfile(each).read())) for each in tar if each.isreg()]  # type: ignore[union-attr]  # it is a file
        assert [one for one, _ in lengths] == [other for _, other in lengths]
        done = subprocess.run(["tar", "-xOf", "-"], input=archive, capture_output=True, check=False)
        assert (done.returncode, done.stderr) == (0, b"")
    for number in range(3):
        lab.ok("cp", "cc:/churn", str(tmp_path / str(number)))
        lab.ok("commit", f"--pause={'true' if number else 'false'}", "cc", f"again{number}")
        lab.ok("run", "--rm", f"again{number}", "ls", "-R", "/churn")
        lab.ok("rmi", f"again{number}")


@pytest.fixture
def deep(lab: Lab, tmp_path: Path) -> Iterator[Lab]:
    """Return an installation with a container cc that has a tree which no path reaches, below /deep."""
    lab.ok("create", "--name", "cc", "busybox", "echo", "works")
    top = os.path.join(lab.get("cc").state.upper, "deep")
    os.mkdir(top)
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(_DEPTH):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = below
    with open(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory), "w") as file:
        file.write("deep")
    os.close(directory)
    yield lab
    remove_tree(str(tmp_path / "copy"))  # pytest cannot


_DEPTH = 3000


def test_a_tree_that_no_path_reaches_is_told_copied_exported_and_committed(deep: Lab, tmp_path: Path) -> None:
    deepest = f"/deep{'/d' * _DEPTH}/file"
    told = deep.ok("diff", "cc").splitlines()
    assert (len(told), told[-1]) == (_DEPTH + 2, f"A {deepest}")
    assert deep.ok("ps", "-a", "--size", "--format", "{{.Size}}").startswith("4B (virtual")
    deep.ok("system", "df", "-v")
    with _export(deep) as tar:
        assert deepest[1:] in tar.getnames()
    deep.ok("commit", "cc", "again")
    deep.ok("cp", "cc:/deep/.", str(tmp_path / "copy"))
    assert sum(found.status.st_size for found in walk(str(tmp_path / "copy")) if not found.is_directory) == len("deep")
    deep.ok("cp", str(tmp_path / "copy"), "cc:/once-more")
    assert len(deep.ok("diff", "cc").splitlines()) == 2 * (_DEPTH + 2)
    deep.ok("rm", "cc")
    archive = str(tmp_path / "again.tar")
    deep.ok("save", "-o", archive, "again")
    deep.ok("rmi", "again")
    deep.ok("load", "-i", archive)
    assert deep.ok("run", "--rm", "again", "ls", "/deep/d") == "d"
    deep.ok("rmi", "again")
