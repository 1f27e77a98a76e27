"""Trees are removed whole, whatever a container has put into them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.storage.trees import remove_tree

NAMES = st.sampled_from(("0", "1", "2", "a", "ü"))
PATHS = st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12)


def _deepen(top: Path, levels: int, name: str) -> None:
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(levels):
        os.mkdir(name, dir_fd=directory)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=directory))
    os.close(directory)


@pytest.mark.parametrize("name", ["d", "0", "n" * 255])
def test_a_tree_deeper_than_any_path_or_stack_is_removed(tmp_path: Path, name: str) -> None:
    top = tmp_path / "top"
    top.mkdir()
    _deepen(top, 1500, name)
    remove_tree(str(top))
    assert not top.exists()


def test_links_lose_only_themselves(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "link").symlink_to(kept)
    (top / "inner" / "link").symlink_to(kept)
    remove_tree(str(top))
    assert not top.exists()
    assert (kept / "file").exists()


def test_directories_that_their_owner_has_closed_are_opened(tmp_path: Path) -> None:
    inner = tmp_path / "top" / "a" / "b"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for path in (inner, inner.parent, inner.parent.parent):
        path.chmod(0)
    remove_tree(str(tmp_path / "top"))
    assert not (tmp_path / "top").exists()


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(str(tmp_path / "nothing"))
    assert list(tmp_path.iterdir()) == []


@given(paths=PATHS)
def test_any_tree_goes(paths: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        top = os.path.join(directory, "top")
        os.mkdir(top)
        for number, parts in enumerate(paths):
            path = os.path.join(top, *parts)
            if number % 2 and not os.path.exists(path) and os.path.isdir(os.path.dirname(path)):
                os.symlink("/", path)
            elif not any(os.path.islink(os.path.join(top, *parts[: depth + 1])) for depth in range(len(parts))):
                os.makedirs(path, exist_ok=True)
        remove_tree(top)
        assert os.listdir(directory) == []
