"""Walks see all of a tree, however deep, and nothing else, whatever happens to it meanwhile."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.storage import disk
from lab.container.storage.trees import remove_tree
from lab.container.storage.walk import open_below, pieces, walk

DEPTH = 5000


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Path]:
    """Return a directory that is removed even if it is too deep for pytest."""
    (tmp_path / "top").mkdir()
    yield tmp_path / "top"
    remove_tree(str(tmp_path / "top"))


def deepen(top: Path, levels: int) -> None:
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=directory)
        os.mkdir("e", dir_fd=directory)
        below = os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = below
    descriptor = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory)
    os.write(descriptor, b"12345")
    os.close(descriptor)
    os.close(directory)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_tree_that_no_path_reaches_is_walked_with_few_descriptors(top: Path) -> None:
    deepen(top, DEPTH)
    before, most, paths = open_descriptors(), 0, []
    for entry in walk(str(top)):
        paths.append(len(entry.path))
        most = max(most, open_descriptors()) if len(paths) % 500 == 0 else most
    assert len(paths) == 2 * DEPTH + 2
    assert max(paths) == 2 * DEPTH + len("file")
    assert most < before + 50
    assert open_descriptors() == before


def test_the_size_of_a_tree_that_no_path_reaches_is_known(top: Path) -> None:
    deepen(top, DEPTH)
    assert disk.content_bytes(str(top)) == 5
    assert disk.used_bytes(str(top)) > 5


def test_each_directory_comes_before_what_is_in_it_and_names_are_sorted(tmp_path: Path) -> None:
    for path in ("b/x/1", "b/y", "a", "b.c", "c/z"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "link").symlink_to("b")
    found = [entry.path for entry in walk(str(tmp_path))]
    assert found == ["", "a", "b", "b/x", "b/x/1", "b/y", "b.c", "c", "c/z", "link"]


def test_a_file_or_a_link_alone_is_walked_and_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        (entry,) = walk(str(tmp_path / name))
        assert (entry.path, entry.is_directory) == ("", False)
    with pytest.raises(FileNotFoundError):
        list(walk(str(tmp_path / "other")))


def test_a_directory_that_becomes_a_link_is_not_followed(tmp_path: Path) -> None:
    tree, secret = tmp_path / "tree", tmp_path / "secret"
    for directory in (tree / "a", tree / "b", secret):
        directory.mkdir(parents=True)
    (secret / "file").touch()
    found = []
    for entry in walk(str(tree)):
        found.append(entry.path)
        if entry.path == "a":
            (tree / "b").rmdir()
            (tree / "b").symlink_to(secret)
    assert found == ["", "a", "b"]


@pytest.mark.parametrize("levels", [3, 100])
def test_a_tree_that_is_moved_out_and_one_that_is_removed_meanwhile_end_the_walk_of_it_alone(
    tmp_path: Path, levels: int
) -> None:
    tree = tmp_path / "tree"
    (tree / "a").mkdir(parents=True)
    (tree / "z").touch()
    deepen(tree / "a", levels)
    before, found = open_descriptors(), []
    for entry in walk(str(tree)):
        found.append(entry.path)
        if entry.path == f"a{'/d' * levels}":
            (tree / "a" / "d").rename(tmp_path / "elsewhere")
            (tree / "y").mkdir()  # too late to be seen
            shutil.rmtree(tree / "a")
    assert found[-1] == "z"
    assert f"a{'/d' * levels}/file" in found
    assert open_descriptors() == before


def test_errors_name_the_whole_path(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").touch()
    for entry in walk(str(tmp_path)):
        if entry.path == "a/b/file":
            os.unlink(tmp_path / entry.path)
            with pytest.raises(FileNotFoundError, match="'a/b/file'"):
                entry.open()


def test_no_link_leads_out_of_what_is_opened_below(tmp_path: Path) -> None:
    (tmp_path / "in" / "side").mkdir(parents=True)
    (tmp_path / "in" / "link").symlink_to("/etc")
    top = os.open(tmp_path / "in", os.O_RDONLY)
    try:
        os.close(open_below(top, "side"))
        os.close(open_below(top, ""))
        for path in ("link", "link/apt"):
            with pytest.raises(NotADirectoryError):
                open_below(top, path)
    finally:
        os.close(top)


@given(st.lists(st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1, max_size=60), max_size=200))
def test_the_pieces_of_a_path_are_the_path_and_short_enough(parts: list[str]) -> None:
    path = "/".join(parts)
    found = list(pieces(path))
    assert "/".join(found) == path
    assert all(len(os.fsencode(piece)) < 4096 for piece in found)
