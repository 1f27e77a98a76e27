"""What a COPY takes, what its digest goes by, which mode a copy gets, and which names mean a repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.image.build_copy import Manner, changed_mode, writing
from lab.container.image.build_select import Choice, Origin, digest, select
from lab.container.image.ignore import parse_ignore
from lab.container.image.repository import Repository, is_repository, parse_repository
from lab.errors import ContainerError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    for name in ("a", "d/b", "d/e/c", "x.o"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (root / "link").symlink_to("/d")
    (root / "out").symlink_to("../../..")
    return root


def _names(root: Path, source: str, choice: Choice | None = None, ignore: str = "") -> list[list[str]]:
    origin = Origin(root=str(root), subject="build context", rules=parse_ignore(ignore))
    found = select(origin, source, choice or Choice())
    return [[item.name for item in each.items] for each in found]


def test_a_directory_is_taken_with_all_that_is_in_it_in_order(tree: Path) -> None:
    assert _names(tree, "d") == [["", "b", "e", "e/c"]]
    assert _names(tree, "/d/../d/") == [["", "b", "e", "e/c"]]
    assert _names(tree, "*") == [["a"], ["", "b", "e", "e/c"], ["", "b", "e", "e/c"], ["", *_all(tree)], ["x.o"]]


def _all(tree: Path) -> list[str]:
    """Return what the link that leads out stands for: the root itself, since nothing is above it."""
    return ["a", "link", "out", "x.o", "d", "d/b", "d/e", "d/e/c"]


def test_no_link_leads_out_of_the_root(tree: Path) -> None:
    assert _names(tree, "link/b") == [["b"]]
    assert _names(tree, "out/a") == [["a"]]
    with pytest.raises(ContainerError, match="not found in build context: out/etc"):
        _names(tree, "out/etc")


def test_names_are_kept_with_parents(tree: Path) -> None:
    parents = Choice(parents=True)
    assert _names(tree, "d/e/c", parents) == [["d/e/c"]]
    assert _names(tree, "d/./e", parents) == [["e", "e/c"]]


def test_what_is_left_out_is_not_taken(tree: Path) -> None:
    assert _names(tree, ".", ignore="d\n!d/e\nlink\nout\n*.o") == [["", "a", "d", "d/e", "d/e/c"]]
    assert _names(tree, "d", Choice(excludes=("e",))) == [["", "b"]]
    with pytest.raises(ContainerError, match=r"since .dockerignore excludes it: a") as caught:
        _names(tree, "a", ignore="a")
    assert "!PATTERN" in caught.value.hint
    with pytest.raises(ContainerError, match=r"nothing in build context matches \*.none"):
        _names(tree, "*.none")


def _digest(root: Path) -> str:
    return digest(select(Origin(root=str(root), subject="x"), ".", Choice()))


@pytest.mark.parametrize("change", ["mode", "content", "name", "link", "kind"])
def test_a_digest_goes_by_all_but_times(tree: Path, change: str) -> None:
    before = _digest(tree)
    os.utime(tree / "a", (1, 1))
    assert _digest(tree) == before
    match change:
        case "mode":
            (tree / "a").chmod(0o600)
        case "content":
            (tree / "a").write_text("b")
        case "name":
            (tree / "a").rename(tree / "b")
        case "link":
            (tree / "link").unlink()
            (tree / "link").symlink_to("/e")
        case "kind":
            (tree / "a").unlink()
            (tree / "a").mkdir()
    assert _digest(tree) != before


_WHO, _WHAT = (
    st.sampled_from(["u", "g", "o", "a", "ug", "go"]),
    st.sampled_from(["r", "w", "x", "rw", "rX", "s", "t", ""]),
)
_CLAUSES = st.lists(st.tuples(_WHO, st.sampled_from(["+", "-", "="]), _WHAT).map("".join), min_size=1, max_size=3)


@given(st.integers(0, 0o777), _CLAUSES, st.booleans())
def test_a_mode_changes_as_chmod_changes_it(
    tmp_path_factory: pytest.TempPathFactory, mode: int, clauses: list[str], is_directory: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / f"chmod-{is_directory}"
    if is_directory:
        path.mkdir(exist_ok=True)
    else:
        path.touch()
    path.chmod(mode)
    subprocess.run(["chmod", ",".join(clauses), str(path)], check=True)
    assert oct(changed_mode(mode, ",".join(clauses), is_directory=is_directory)) == oct(path.stat().st_mode & 0o7777)


@pytest.mark.parametrize(("change", "mode"), [("644", 0o644), ("4755", 0o4755), ("0", 0)])
def test_a_mode_may_be_a_number(change: str, mode: int) -> None:
    assert changed_mode(0o777, change, is_directory=False) == mode


@pytest.mark.parametrize("change", ["8", "u", "u=z", "", "u+r,", "777777"])
def test_what_is_no_mode_is_refused(change: str) -> None:
    with pytest.raises(ContainerError, match="invalid --chmod"):
        changed_mode(0, change, is_directory=False)


@pytest.mark.skipif(shutil.which("fallocate") is None, reason="makes holes: util-linux")
def test_holes_stay_holes(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir(), target.mkdir()
    with open(source / "f", "wb") as file:
        file.write(b"x" * 5000)
        file.seek(10_000_000)
        file.write(b"y")
        file.truncate(20_000_000)
    owner = (os.getuid(), os.getgid())
    with writing(str(target), Manner(owner=owner)) as tree:
        tree.copy(select(Origin(root=str(source), subject="x"), "f", Choice())[0], "/g")
    assert (target / "g").read_bytes() == (source / "f").read_bytes()
    assert (target / "g").stat().st_blocks * 512 < 1_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/r.git", Repository(url="https://h/r.git")),
        ("https://h/r.git#v1:sub/dir/", Repository(url="https://h/r.git", reference="v1", subdirectory="sub/dir")),
        ("git@h:r#:sub", Repository(url="git@h:r", subdirectory="sub")),
        ("github.com/u/r#main", Repository(url="https://github.com/u/r", reference="main")),
        ("ssh://h/r", Repository(url="ssh://h/r")),
    ],
)
def test_a_repository_is_read_from_its_url(text: str, expected: Repository) -> None:
    assert is_repository(text)
    assert parse_repository(text) == expected


@pytest.mark.parametrize("text", ["https://h/x.tar.gz", ".", "dir.git", "./github.com", "-"])
def test_other_names_mean_no_repository(text: str) -> None:
    assert not is_repository(text)
