"""What of the working tree is sent, and a command as it arrives."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from lab.linux import command
from lab.testbed import tree
from lab.testbed.inside_command import guest_command


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name, text in {".gitignore": "*.log\n", "kept.py": "a", "sub/old.py": "b", "noise.log": "c"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "link").symlink_to("kept.py")
    assert command.run(("git", "init", "-q", str(tmp_path))).exit_code == 0
    return tmp_path


def test_what_git_ignores_is_not_sent(checkout: Path) -> None:
    assert set(tree.manifest(str(checkout))) == {".gitignore", "kept.py", "sub/old.py", "link"}


def test_only_what_has_changed_is_sent_and_what_is_gone_is_removed(checkout: Path) -> None:
    before = tree.manifest(str(checkout))
    (checkout / "kept.py").write_text("changed")
    (checkout / "sub/old.py").rename(checkout / "sub/new.py")
    found = tree.delta(before, tree.manifest(str(checkout)))
    assert found == tree.Delta(send=("kept.py", "sub/new.py"), remove=("sub/old.py",))


def test_an_unchanged_tree_is_not_sent_again(checkout: Path) -> None:
    now = tree.manifest(str(checkout))
    assert tree.delta(now, tree.manifest(str(checkout))) == tree.Delta(send=(), remove=())


def test_a_file_that_goes_while_it_is_packed_is_left_out(checkout: Path) -> None:
    packed = tree.pack(str(checkout), ("kept.py", "link", "gone.py"))
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        assert [(member.name, member.issym()) for member in archive] == [("kept.py", False), ("link", True)]


def test_a_command_finds_the_labs_programs_first_and_the_users_variables_win() -> None:
    made = guest_command(("lab", "doctor"), {"HOME": "/elsewhere", "A": "b"}, "/tree")
    env = dict(made.env)
    assert env["PATH"].split(":")[0] == os.path.join(sys.prefix, "bin")
    assert (env["HOME"], env["A"], made.cwd) == ("/elsewhere", "b", "/tree")
