"""Being told of changes in a directory."""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path

import pytest

from lab.linux import inotify

ALL = inotify.IN_MODIFY | inotify.IN_MOVED_TO | inotify.IN_CREATE | inotify.IN_DELETE | inotify.IN_DELETE_SELF


def test_what_happens_in_a_directory_is_told_in_order(tmp_path: Path) -> None:
    with inotify.Watch() as watch:
        watch.add(str(tmp_path), ALL)
        (tmp_path / "new").write_text("text")
        os.rename(tmp_path / "new", tmp_path / "other")
        assert watch.wait(None) == {watch.fileno()}
        assert [(change.mask, change.name) for change in watch.read()] == [
            (inotify.IN_CREATE, "new"),
            (inotify.IN_MODIFY, "new"),
            (inotify.IN_MOVED_TO, "other"),
        ]


def test_the_end_of_the_directory_itself_is_told(tmp_path: Path) -> None:
    (tmp_path / "watched").mkdir()
    with inotify.Watch() as watch:
        watch.add(str(tmp_path / "watched"), ALL)
        os.rmdir(tmp_path / "watched")
        assert inotify.IN_DELETE_SELF in [change.mask for change in watch.read()]


def test_without_changes_nothing_is_told_and_the_wait_ends_in_time(tmp_path: Path) -> None:
    with inotify.Watch() as watch:
        watch.add(str(tmp_path), ALL)
        before = time.monotonic_ns()
        assert watch.wait(20_000_000) == frozenset()
        assert time.monotonic_ns() - before >= 15_000_000
        assert watch.read() == ()


def test_other_descriptors_end_the_wait_as_well(tmp_path: Path) -> None:
    source, target = os.pipe()
    try:
        with inotify.Watch() as watch:
            watch.add(str(tmp_path), ALL)
            os.write(target, b"x")
            assert watch.wait(None, source) == {source}
    finally:
        os.close(source)
        os.close(target)


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with inotify.Watch() as watch, pytest.raises(FileNotFoundError, match="none"):
        watch.add(str(tmp_path / "none"), ALL)


def test_names_end_where_their_padding_begins() -> None:
    first = struct.pack("=iIII", 1, inotify.IN_CREATE, 0, 16) + b"name".ljust(16, b"\0")
    second = struct.pack("=iIII", 1, inotify.IN_DELETE_SELF, 0, 0)
    assert [(change.mask, change.name) for change in inotify.parse(first + second)] == [
        (inotify.IN_CREATE, "name"),
        (inotify.IN_DELETE_SELF, ""),
    ]
