"""The log of a container on disks that fill up and under a writer that never ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.container.log_file import LIMITS_FILE, LOG_FILE, Log
from lab.linux import mount

pytestmark = [pytest.mark.root, pytest.mark.needs("root")]

LINE = b"x" * 99 + b"\n"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a directory of one mebibyte."""
    mount.mount("tmpfs", str(tmp_path), "tmpfs", 0, "size=1m")
    yield tmp_path
    mount.umount2(str(tmp_path), mount.MNT_DETACH)


def _entries(bundle: Path) -> list[bytes]:
    text = (bundle / LOG_FILE).read_bytes()
    assert text.endswith(b"\n")
    return text.split(b"\n")[:-1]


def test_a_full_disk_loses_lines_whole_and_says_so_when_there_is_room_again(small_disk: Path) -> None:
    (small_disk / "other").write_bytes(bytes(512 << 10))
    log = Log(str(small_disk))
    for _ in range(20_000):
        log.append("stdout", LINE)
    assert all(len(entry) == 41 + len(LINE) - 1 - 1 for entry in _entries(small_disk))
    kept = len(_entries(small_disk))
    os.unlink(small_disk / "other")
    log.append("stdout", b"room again\n")
    log.close()
    *_, note, last = _entries(small_disk)
    assert f"[{(20_000 - kept) * len(LINE)} bytes of output were not logged".encode() in note
    assert last.endswith(b" stdout F room again")


def test_an_entry_that_a_killed_writer_has_left_half_is_taken_off(tmp_path: Path) -> None:
    log = Log(str(tmp_path))
    log.append("stdout", b"whole\n")
    log.close()
    with open(tmp_path / LOG_FILE, "ab") as file:
        file.write(b"2026-01-01T00:00:00.000000000Z std")
    log = Log(str(tmp_path))
    log.append("stderr", b"after\n")
    log.close()
    assert [entry.split(b" ", 1)[1] for entry in _entries(tmp_path)] == [b"stdout F whole", b"stderr F after"]


def test_a_limited_log_never_outgrows_its_files_whatever_the_size_of_what_comes(tmp_path: Path) -> None:
    (tmp_path / LIMITS_FILE).write_text("4096 3")
    log = Log(str(tmp_path))
    for number in range(300):
        log.append("stdout", LINE * (number % 40) + b"partial")
    log.close()
    files = sorted(name for name in os.listdir(tmp_path) if name.startswith(LOG_FILE))
    assert files == [LOG_FILE, f"{LOG_FILE}.1", f"{LOG_FILE}.2"]
    assert all((tmp_path / name).stat().st_size < 4096 + 2 * len(LINE) for name in files)
