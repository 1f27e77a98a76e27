"""A container's files as archives and images: sparse files, hard links, full disks, what was replaced."""

from __future__ import annotations

import contextlib
import io
import os
import stat
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


def test_a_full_disk_ends_an_export_with_the_reason_and_no_half_file(lab: Lab, tmp_path: Path) -> None:
    lab.ok("create", "--name", "cc", "busybox", "true")
    mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
    try:
        for words in (("export", "-o", str(tmp_path / "out"), "cc"), ("save", "-o", str(tmp_path / "out"), "busybox")):
            done = lab(*words)
            assert (done.code, "No space left on device" in done.err, "Traceback" in done.err) == (1, True, False)
            assert os.listdir(tmp_path) == []
    finally:
        mount.umount2(str(tmp_path), 0)
    with open("/dev/full", "wb") as full:
        for words in (("export", "cc"), ("cp", "cc:/bin", "-"), ("save", "busybox")):
            errors = lab.begin(*words, stdout=full.fileno()).communicate()[1].decode()
            assert "write standard output: No space left on device" in errors


def test_no_device_and_no_directory_is_replaced_by_an_archive(lab: Lab, tmp_path: Path) -> None:
    lab.ok("create", "--name", "cc", "busybox", "true")
    null = str(tmp_path / "null")
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for words in (
        ("export", "-o", null, "cc"),
        ("save", "-o", null, "busybox"),
        ("save", "-o", str(tmp_path), "busybox"),
    ):
        done = lab(*words)
        assert (done.code, "cannot write to" in done.err) == (1, True)
    assert stat.S_ISCHR(os.lstat(null).st_mode)


_NEEDS_SPACE = (
    ("run", "--rm", "busybox", "true"), ("create", "busybox", "true"), ("start", "old"), ("build", "{context}"),
    ("load", "-i", "{archive}"), ("commit", "old", "new"), ("import", "{archive}", "new"), ("tag", "busybox", "new"),
    ("cp", "{archive}", "old:/x"),
)  # fmt: skip
_READS = (
    ("cp", "old:/etc/passwd", "-"), ("export", "-o", "{out}", "old"), ("diff", "old"), ("images",), ("ps", "-a"),
    ("inspect", "old"),
)  # fmt: skip


@pytest.fixture
def prepared(small: Lab, tmp_path: Path) -> tuple[Lab, dict[str, str]]:
    """Return a small installation with a container called old, and what commands in the table stand for."""
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN echo new > /new\n")
    archive = str(tmp_path / "archive")
    small.ok("create", "--name", "old", "busybox", "echo", "works")
    small.ok("save", "-o", archive, "busybox")
    return small, {"context": str(tmp_path), "archive": archive, "out": str(tmp_path / "out")}


def _try_all(lab: Lab, places: dict[str, str], says: str, hint: str) -> None:
    for words in _NEEDS_SPACE:
        done = lab(*(word.format_map(places) for word in words))
        assert done.code == (125 if words[0] == "run" else 1), (words, done)
        assert says in done.err, (words, done)
        assert hint in done.err or words[0] in ("start", "cp"), (words, done)
        assert "Traceback" not in done.err
    for words in _READS:
        lab.ok(*(word.format_map(places) for word in words))


def _works_again(lab: Lab, places: dict[str, str]) -> None:
    assert lab.ok("system", "check") != ""
    assert lab.ok("images", "-q", "--no-trunc") == lab.ok("inspect", "-f", "{{.Image}}", "old")
    for words in _NEEDS_SPACE:
        lab.ok(*(word.format_map(places) for word in words))


def test_a_full_store_is_told_by_every_verb_and_works_again_with_space(prepared: tuple[Lab, dict[str, str]]) -> None:
    lab, places = prepared
    lab.ok("run", "--rm", "busybox", "true")
    with open(os.path.join(lab.paths.root, "fill"), "wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            continue
    _try_all(lab, places, "No space left on device", "lab system prune")
    os.unlink(os.path.join(lab.paths.root, "fill"))
    _works_again(lab, places)


def test_a_store_that_is_read_only_is_told_by_every_verb_and_can_be_read(prepared: tuple[Lab, dict[str, str]]) -> None:
    lab, places = prepared
    root = lab.paths.root
    mount.mount(root, root, "", mount.MS_BIND, "")
    try:
        mount.mount("", root, "", mount.MS_REMOUNT | mount.MS_BIND | mount.MS_RDONLY, "")
        _try_all(lab, places, "Read-only file system", "writable")
    finally:
        mount.umount2(root, 0)
    _works_again(lab, places)


def test_what_stands_on_as_many_layers_as_docker_allows_is_exported(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "Dockerfile").write_text("FROM busybox\n" + "".join(f"COPY f /made{n}\n" for n in range(120)))
    lab.ok("build", "-q", "-t", "high", str(tmp_path))
    lab.ok("create", "--name", "cc", "high", "true")
    with _export(lab) as tar:
        assert len([name for name in tar.getnames() if name.startswith("made")]) == 120
    lab.ok("rm", "cc")
    lab.ok("rmi", "high")


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
