"""Entries of targets whose containers are not ours: an owner that lives keeps its own, a dead one's is told once."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from lab.linux import command
from lab.target.backends.claim import abandoned, claim
from lab.target.spec import Command, TargetSpec

SPEC = TargetSpec(name="lab-x-1", image="", command=Command(argv=("x",)), cgroup_parent="lab/run")
_DIES = """
import os, signal, sys
from lab.target.backends.claim import claim
from lab.target.spec import Command, TargetSpec
claim(sys.argv[1], TargetSpec(name="lab-x-1", image="", command=Command(argv=("x",)), cgroup_parent="lab/run"))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_has_an_owner_is_not_abandoned_and_what_was_released_is_forgotten(tmp_path: Path) -> None:
    held = claim(str(tmp_path), SPEC)
    assert list(abandoned(str(tmp_path))) == []

    held.release()
    held.release()

    assert list(abandoned(str(tmp_path))) == []
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_owner_claimed_is_told_once_with_its_cgroup(tmp_path: Path) -> None:
    done = command.run((sys.executable, "-c", _DIES, str(tmp_path)))
    assert done.exit_code == -signal.SIGKILL, done.error_text

    (found,) = abandoned(str(tmp_path))

    assert (found.name, found.cgroup_parent) == (SPEC.name, SPEC.cgroup_parent)
    assert list(abandoned(str(tmp_path))) == []
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_removed_is_told_again(tmp_path: Path) -> None:
    command.run((sys.executable, "-c", _DIES, str(tmp_path)))

    first = abandoned(str(tmp_path))
    next(first)
    first.close()

    assert [spec.name for spec in abandoned(str(tmp_path))] == [SPEC.name]


def test_where_no_target_has_ever_been_nothing_is_abandoned(tmp_path: Path) -> None:
    assert list(abandoned(str(tmp_path / "none"))) == []
