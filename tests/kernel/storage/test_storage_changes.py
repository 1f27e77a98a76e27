"""What a container has changed: told from overlay's upper directory, packed as a layer, and the same to other tools."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pytest

from lab.container.storage.blobs import BlobStore
from lab.container.storage.changes import changes
from lab.container.storage.compression import Compression
from lab.container.storage.layers import LayerSource, LayerStore
from lab.container.storage.pack import Layer, pack_directory, write_tree
from lab.container.storage.snapshots import Overlay, mount_overlay, unmount
from lab.container.storage.trees import remove_tree
from lab.linux import command

pytestmark = [pytest.mark.root, pytest.mark.needs("overlay")]


DEPTH = 5000


def deepen(top: Path, levels: int) -> None:
    """Make directories in each other, with a file in the innermost one."""
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=directory)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)


class Mounted:
    """An overlay over two layers, as a container has it."""

    def __init__(self, base: Path) -> None:
        self.lower = (str(base / "top"), str(base / "bottom"))
        self.upper = str(base / "upper")
        self.root = base / "merged"
        for name in ("top", "bottom", "upper", "work", "merged"):
            (base / name).mkdir()
        self.base = base

    def mount(self) -> None:
        mount_overlay(Overlay(lower=self.lower, upper=self.upper, work=str(self.base / "work")), str(self.root))

    def told(self) -> list[str]:
        return [f"{change.kind} {change.path}" for change in changes(self.upper, self.lower)]


@pytest.fixture
def overlay(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    bottom, top = tmp_path / "bottom", tmp_path / "top"
    for name in ("etc/deep", "bin", "gone", "var"):
        (bottom / name).mkdir(parents=True)
    for name in ("etc/hosts", "etc/deep/file", "bin/tool", "gone/file", "var/kept"):
        (bottom / name).write_text(name)
    (top / "etc").mkdir()
    (top / "etc/added-above").write_text("x")
    os.symlink("/etc", top / "link")
    yield made
    unmount(str(made.root))
    for directory in (made.upper, *made.lower):  # which may be too deep for pytest
        remove_tree(directory)


def test_nothing_is_told_of_a_container_that_only_reads(overlay: Mounted) -> None:
    overlay.mount()
    assert (overlay.root / "etc/hosts").read_text() == "etc/hosts"
    assert overlay.told() == []


def test_added_modified_and_deleted_paths_are_told_with_their_directories(overlay: Mounted) -> None:
    overlay.mount()
    (overlay.root / "etc/deep/new").write_text("x")
    (overlay.root / "etc/hosts").write_text("changed")
    (overlay.root / "bin/tool").unlink()
    (overlay.root / "new").mkdir()
    (overlay.root / "new/file").write_text("x")
    os.chmod(overlay.root / "var", 0o700)
    (overlay.root / "new.file").write_text("x")
    told = ["C /bin", "D /bin/tool", "C /etc", "C /etc/deep", "A /etc/deep/new", "C /etc/hosts", "A /new"]
    assert overlay.told() == [*told, "A /new/file", "A /new.file", "C /var"]


def test_what_was_touched_and_is_as_before_is_not_told(overlay: Mounted) -> None:
    overlay.mount()
    os.chmod(overlay.root / "etc/hosts", stat.S_IMODE(os.stat(overlay.root / "etc/hosts").st_mode))
    os.utime(overlay.root / "var", (1, 1))
    (overlay.root / "gone/file").rename(overlay.root / "gone/other")
    (overlay.root / "gone/other").rename(overlay.root / "gone/file")
    assert os.path.exists(f"{overlay.upper}/etc/hosts")
    assert overlay.told() == []


def test_capabilities_of_a_file_are_told(overlay: Mounted) -> None:
    overlay.mount()
    os.setxattr(overlay.root / "bin/tool", "security.capability", bytes.fromhex("0100000200040000" + 24 * "0"))
    assert overlay.told() == ["C /bin", "C /bin/tool"]


def test_a_tree_that_no_path_reaches_is_told_whole(overlay: Mounted) -> None:
    for tree in (overlay.lower[1], overlay.upper):
        deepen(Path(tree), DEPTH)
    told = overlay.told()
    assert len(told) == DEPTH + 1
    assert told[0] == "C /d"
    assert told[-1] == f"C {'/d' * DEPTH}/file"


def test_of_a_directory_that_was_removed_and_made_again_what_is_gone_is_told(overlay: Mounted) -> None:
    overlay.mount()
    command.run(["rm", "-r", str(overlay.root / "etc")])
    (overlay.root / "etc/deep").mkdir(parents=True)
    (overlay.root / "etc/hosts").write_text("new")
    told = ["C /etc", "C /etc/deep", "D /etc/deep/file", "C /etc/hosts", "D /etc/added-above"]
    assert overlay.told() == told


def test_a_link_of_a_layer_is_not_followed_on_the_host(overlay: Mounted) -> None:
    overlay.mount()
    (overlay.root / "link").unlink()
    (overlay.root / "link").mkdir()
    (overlay.root / "link/passwd").write_text("the host has such a file")
    assert overlay.told() == ["C /link", "A /link/passwd"]


def unpacked(blobs: BlobStore, base: Path, layer: Layer) -> str:
    source = LayerSource(descriptor=layer.descriptor, diff_id=layer.diff_id, chain_id=layer.diff_id)
    return LayerStore(str(base), blobs).directory(source)


def seen(root: str) -> dict[str, object]:
    """Return what every path below a root is, times in whole seconds; whiteouts have none."""
    found: dict[str, object] = {}
    for directory, names, files in os.walk(root):
        for name in (*names, *files):
            path = os.path.join(directory, name)
            status = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(status.st_mode) else b""
            target = os.readlink(path) if stat.S_ISLNK(status.st_mode) else ""
            attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in _attributes(path)}
            is_whiteout = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
            mtime_s = 0 if is_whiteout else int(status.st_mtime)
            found[os.path.relpath(path, root)] = (
                *(status.st_mode, status.st_uid, status.st_gid, mtime_s, status.st_rdev),
                *(content, target, attributes),
            )
    return found


def _attributes(path: str) -> list[str]:
    names = os.listxattr(path, follow_symlinks=False)
    return [name for name in names if not name.startswith("trusted.overlay.") or name.endswith("opaque")]


@pytest.mark.parametrize("compression", [Compression.GZIP, Compression.ZSTD])
def test_a_containers_layer_is_the_same_after_it_was_packed(
    overlay: Mounted, tmp_path: Path, compression: Compression
) -> None:
    overlay.mount()
    root = overlay.root
    command.run(["rm", "-r", str(root / "gone")])
    (root / "gone").mkdir()
    (root / "bin/tool").unlink()
    (root / "etc/hosts").write_text("changed")
    os.link(root / "etc/hosts", root / "etc/second")
    os.mknod(root / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mkfifo(root / "pipe")
    os.setxattr(root / "etc/hosts", "user.binary", b"\xff\0\n=")
    Path(os.fsdecode(os.fsencode(str(root)) + b"/name-\xff")).write_bytes(b"a name that is no UTF-8")
    blobs = BlobStore(str(tmp_path / "blobs"))
    layer = pack_directory(blobs, overlay.upper, compression=compression)
    directory = unpacked(blobs, tmp_path / "layers", layer)
    assert seen(directory) == seen(overlay.upper)
    assert os.stat(f"{directory}/etc/hosts").st_ino == os.stat(f"{directory}/etc/second").st_ino
    assert pack_directory(blobs, directory, compression=compression) == layer


def test_holes_stay_holes_in_what_is_packed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    with open(tree / "sparse", "wb") as file:
        file.write(b"begin")
        file.seek(8 * 1024**2)
        file.write(b"middle")
        file.truncate(64 * 1024**2)
    with open(tree / "empty", "wb") as file:
        file.truncate(16 * 1024**2)
    blobs = BlobStore(str(tmp_path / "blobs"))
    layer = pack_directory(blobs, str(tree))
    directory = unpacked(blobs, tmp_path / "layers", layer)
    for name in ("sparse", "empty"):
        assert Path(directory, name).read_bytes() == (tree / name).read_bytes()
        assert os.stat(f"{directory}/{name}").st_blocks <= 64
    (tmp_path / "by-tar").mkdir()
    with open(tmp_path / "tree.tar", "wb") as file:
        write_tree(str(tree), file)
    assert os.path.getsize(tmp_path / "tree.tar") < 1024**2
    assert command.run(["tar", "xf", str(tmp_path / "tree.tar"), "-C", str(tmp_path / "by-tar")]).exit_code == 0
    for name in ("sparse", "empty"):
        assert (tmp_path / "by-tar" / name).read_bytes() == (tree / name).read_bytes()


def test_an_exported_tree_has_no_entry_for_its_root(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hosts").write_text("x")
    target = BytesIO()
    write_tree(str(tmp_path), target)
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert tar.getnames() == ["etc", "etc/hosts"]
