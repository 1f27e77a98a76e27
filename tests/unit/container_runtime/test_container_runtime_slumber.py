"""What a spawner that sleeps tells the one that wakes up, and who still reads."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lab.container import slumber


def test_what_was_open_is_found_by_the_one_that_wakes_up() -> None:
    opened = [os.dup(0) for _ in range(4)]
    for descriptor in opened:
        os.set_inheritable(descriptor, True)
    woken = slumber.Woken(f"={opened[0]},{opened[1]};one={opened[2]},{opened[3]};two=")
    assert not any(map(os.get_inheritable, opened))
    assert woken.take_held("one") == opened[2:]
    assert woken.take_held("one") is None
    assert woken.take_held("two") == []
    assert woken.take_held("three") is None
    woken.close()
    for descriptor in opened[:2]:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
    for descriptor in opened[2:]:
        os.close(descriptor)


def test_a_new_spawner_has_not_been_woken() -> None:
    assert slumber.woken() is None


def test_a_program_that_cannot_be_executed_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-c", ""])
    source, target = os.pipe()
    try:
        slumber.begin(f"{tmp_path}/none", source, (), {}, "again")
        assert not os.get_inheritable(source)
    finally:
        os.close(source)
        os.close(target)


def test_a_pipe_has_a_reader_until_its_last_one_has_gone() -> None:
    source, target = os.pipe()
    try:
        assert slumber.has_reader(target)
        os.close(source)
        assert not slumber.has_reader(target)
    finally:
        os.close(target)
