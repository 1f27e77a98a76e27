"""Packing: the same files are the same bytes; plans of trees are whole."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import posixpath
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image import busybox
from lab.container.storage.blobs import BlobStore
from lab.container.storage.layers import chain_ids
from lab.container.storage.overlay import classic_options
from lab.container.storage.pack import Layer, pack_directory, pack_tar, write_tree, writing_tree
from lab.container.storage.unpack import parts_of
from lab.container.storage.walk import walk
from lab.errors import LayerCorrupt
from lab.linux import command

BUSYBOX = busybox.Busybox(
    program=b"\x7fELF",
    applets=("bin/busybox", "bin/sh", "usr/bin/awk", "usr/sbin/chroot", "linuxrc"),
    version="1",
    mtime_s=1000,
)


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "store"))


def entries_of(blobs: BlobStore, layer: Layer) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(blobs.path(layer.descriptor.digest)) as tar:
        return {entry.name: entry for entry in tar}


def make_tree(root: Path) -> Path:
    (root / "b" / "c").mkdir(parents=True)
    (root / "a").write_text("first")
    os.link(root / "a", root / "b" / "second-name")
    (root / "link").symlink_to("/nowhere")
    (root / "ünï\udcff").write_text("odd name")
    os.mkfifo(root / "pipe")
    return root


def test_the_same_tree_packs_to_the_same_bytes(blobs: BlobStore, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    assert pack_directory(blobs, str(tree)) == pack_directory(blobs, str(tree))


def test_the_order_in_which_files_were_made_does_not_matter(blobs: BlobStore, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for root, names in ((one, "abc"), (other, "cba")):
        root.mkdir()
        for name in names:
            (root / name).write_text(name)
    assert pack_directory(blobs, str(one), mtime_limit_s=5) == pack_directory(blobs, str(other), mtime_limit_s=5)


def test_no_file_is_younger_than_the_limit(blobs: BlobStore, tmp_path: Path) -> None:
    layer = pack_directory(blobs, str(make_tree(tmp_path / "tree")), mtime_limit_s=1234)
    assert {entry.mtime for entry in entries_of(blobs, layer).values()} == {1234}


def test_a_second_name_of_a_file_is_a_hard_link(blobs: BlobStore, tmp_path: Path) -> None:
    entries = entries_of(blobs, pack_directory(blobs, str(make_tree(tmp_path / "tree"))))
    assert entries["b/second-name"].islnk()
    assert entries["b/second-name"].linkname == "a"
    assert entries["link"].linkname == "/nowhere"
    assert entries["pipe"].isfifo()


def test_names_of_users_are_not_stored(blobs: BlobStore, tmp_path: Path) -> None:
    entries = entries_of(blobs, pack_directory(blobs, str(make_tree(tmp_path / "tree"))))
    assert {(entry.uname, entry.gname) for entry in entries.values()} == {("", "")}


def test_the_diff_id_is_that_of_the_tar_before_compression(blobs: BlobStore, tmp_path: Path) -> None:
    layer = pack_directory(blobs, str(make_tree(tmp_path / "tree")))
    data = gzip.decompress(Path(blobs.path(layer.descriptor.digest)).read_bytes())
    assert layer.diff_id == f"sha256:{hashlib.sha256(data).hexdigest()}"
    (tmp_path / "plain.tar").write_bytes(data)
    assert pack_tar(blobs, str(tmp_path / "plain.tar")) == layer


def test_a_chain_id_stands_for_a_layer_and_all_below_it() -> None:
    low, high = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    both = f"sha256:{hashlib.sha256(f'{low} {high}'.encode()).hexdigest()}"
    assert chain_ids((low, high)) == (low, both)
    assert chain_ids(()) == ()


def test_the_busybox_plan_has_every_directory_before_what_is_in_it() -> None:
    names = [entry.name for entry in busybox.plan(BUSYBOX)]
    for index, name in enumerate(names):
        parent = posixpath.dirname(name)
        assert not parent or parent in names[:index]


def test_applets_are_links_that_reach_the_program() -> None:
    entries = {entry.name: entry for entry in busybox.plan(BUSYBOX)}
    links = {name: entry.link for name, entry in entries.items() if entry.link}
    assert links == {"bin/sh": "busybox", "usr/bin/awk": "../../bin/busybox", "usr/sbin/chroot": "../../bin/busybox"}
    assert entries["bin/busybox"].content == BUSYBOX.program
    assert entries["tmp"].mode == 0o1777


def test_the_same_program_gives_the_same_layer(blobs: BlobStore) -> None:
    plan = busybox.plan(BUSYBOX)
    assert busybox.pack(blobs, plan, mtime_s=7) == busybox.pack(blobs, plan, mtime_s=7)


def test_paths_with_special_characters_are_escaped_for_the_old_mount_call() -> None:
    options = classic_options(("/top:1", "/low,2"), "/u\\3", "/w", volatile=True)
    assert options.startswith("lowerdir=/top\\:1:/low\\,2,upperdir=/u\\\\3,workdir=/w,")
    assert options.endswith(",volatile")


@given(st.lists(st.sampled_from(["..", "a", "", ".", "b"]), max_size=6), st.booleans())
def test_a_name_that_goes_up_is_refused_and_the_root_is_the_layers(parts: list[str], absolute: bool) -> None:
    name = ("/" if absolute else "") + "/".join(parts)
    if ".." in parts:
        with pytest.raises(LayerCorrupt, match="leaves"):
            parts_of(name)
    else:
        assert parts_of(name) == tuple(part for part in parts if part in ("a", "b"))


@pytest.mark.parametrize("name", ["short", "ö" * 20, "long" * 40])
def test_a_sparse_file_has_its_own_name_and_holes_for_every_reader(tmp_path: Path, name: str) -> None:
    tree, archive = tmp_path / "tree", tmp_path / "archive"
    for directory in (tree, tree / name):
        directory.mkdir()
        with open(directory / f"file-{name}", "wb") as file:
            file.truncate(3_000_000)
            file.seek(1_000_000)
            file.write(b"data")
    with open(archive, "wb") as file:
        write_tree(str(tree), file)
    wanted = [name, f"{name}/file-{name}", f"file-{name}"]
    with tarfile.open(archive) as tar:
        assert sorted(tar.getnames()) == sorted(wanted)
        content = tar.extractfile(f"{name}/file-{name}")
        assert content is not None
        assert content.read() == (tree / name / f"file-{name}").read_bytes()
    told = command.run(["tar", "--quoting-style=literal", "-tf", str(archive)])
    assert sorted(line.rstrip("/") for line in told.text.splitlines()) == sorted(wanted)
    assert archive.stat().st_size < 100_000


class _Shrinking:
    """A target that cuts a file while it is being written."""

    def __init__(self, path: Path) -> None:
        self.path, self.data = path, b""

    def write(self, data: bytes) -> int:
        if not self.data:
            os.truncate(self.path, 10)
        self.data += data
        return len(data)


def test_a_file_that_becomes_shorter_while_it_is_packed_is_filled_up(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    shrinks = tmp_path / "tree" / "b"
    shrinks.write_bytes(b"x" * 100_000)
    (tmp_path / "tree" / "c").write_text("after")
    target = _Shrinking(shrinks)
    write_tree(str(tmp_path / "tree"), target)
    with tarfile.open(fileobj=io.BytesIO(target.data)) as tar:
        one, other = (tar.extractfile(name) for name in ("b", "c"))
        assert one is not None
        assert other is not None
        assert one.read() == b"x" * 10 + bytes(99_990)
        assert other.read() == b"after"


def test_files_that_vanish_while_a_tree_is_packed_are_left_out(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree")
    target = io.BytesIO()
    with writing_tree(target) as writer:
        for found in walk(str(tree)):
            if found.path and not found.is_directory:
                (tree / found.path).unlink()
            writer.add_found(found, found.path or ".")
    target.seek(0)
    with tarfile.open(fileobj=target) as tar:
        assert sorted(tar.getnames()) == [".", "b", "b/c", "pipe"]


def test_a_directory_that_becomes_a_link_while_a_tree_is_packed_shows_nothing_of_the_host(tmp_path: Path) -> None:
    tree, secret = tmp_path / "tree", tmp_path / "secret"
    for directory in (tree / "a", tree / "b", secret):
        directory.mkdir(parents=True)
    (tree / "b" / "file").write_text("public")
    (secret / "file").write_text("secret")
    target = io.BytesIO()
    with writing_tree(target) as writer:
        for found in walk(str(tree)):
            if found.path == "b":
                (tree / "b").rename(tmp_path / "moved")
                (tree / "b").symlink_to(secret)
            writer.add_found(found, found.path or ".")
    assert b"secret" not in target.getvalue()
    assert b"public" in target.getvalue()


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0")))
def test_no_name_is_longer_than_the_limit(text: str) -> None:
    with pytest.raises(LayerCorrupt, match="over the limit"):
        parts_of(text + "/d" * 40_000)
