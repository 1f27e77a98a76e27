"""`lab volume clone export import`: what is kept, what is refused, and what a kill leaves: nothing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from lab.container.volumes.store import VolumeStore

from ..containers.conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_SEED = 20260113
_KILLS = 3
_HOLE_BYTES = 64 << 20


def _fill(data: str) -> None:
    os.chown(data, 7, 8)
    os.chmod(data, 0o2750)
    file = Path(data, "dir/file")
    file.parent.mkdir(mode=0o700)
    file.write_text("text")
    os.chown(file, 1000, 1001)
    os.chmod(file, 0o4755)
    os.setxattr(file, "user.note", b"kept")
    os.link(file, os.path.join(data, "hard"))
    os.symlink("dir/file", os.path.join(data, "soft"))
    os.mkfifo(os.path.join(data, "pipe"))
    with open(os.path.join(data, "holes"), "wb") as sparse:
        sparse.truncate(_HOLE_BYTES)
        sparse.seek(_HOLE_BYTES // 2)
        sparse.write(b"data")


def _seen(data: str) -> dict[str, object]:
    found: dict[str, object] = {}
    for name in (".", "dir", "dir/file", "hard", "soft", "pipe", "holes"):
        path = os.path.join(data, name)
        status = os.lstat(path)
        note = os.listxattr(path, follow_symlinks=False)
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_nlink, tuple(note))
    assert os.stat(os.path.join(data, "holes")).st_blocks * 512 < _HOLE_BYTES // 16
    assert os.path.samefile(os.path.join(data, "hard"), os.path.join(data, "dir/file"))
    return found


def test_everything_of_a_file_is_kept_by_clone_and_by_export_and_import(lab: Lab, tmp_path: Path) -> None:
    store = VolumeStore(lab.paths)
    lab.ok("volume", "create", "--label", "of=shop", "data")
    _fill(store.data("data"))
    wanted = _seen(store.data("data"))
    assert lab.ok("volume", "clone", "data", "copy") == "copy"
    lab.ok("volume", "export", "-o", str(tmp_path / "data.tar"), "data")
    subprocess.run(["gzip", "-k", tmp_path / "data.tar"], check=True)
    lab.ok("volume", "import", "back", str(tmp_path / "data.tar"))
    lab.ok("volume", "import", "--label", "a=1", "packed", str(tmp_path / "data.tar.gz"))
    for name in ("copy", "back", "packed"):
        assert _seen(store.data(name)) == wanted, name
        assert sorted(os.listdir(store.path(name))) == ["_data", "volume.json"]
    assert (dict(store.get("copy").labels), dict(store.get("packed").labels)) == ({"of": "shop"}, {"a": "1"})


def test_a_volume_with_a_size_is_cloned_exported_and_imported_too(lab: Lab, tmp_path: Path) -> None:
    lab.ok("volume", "create", "--size", "8m", "small")
    lab.ok("run", "--rm", "-v", "small:/d", "busybox", "sh", "-c", "echo kept > /d/file && chown 7:8 /d/file")
    lab.ok("volume", "clone", "small", "other")
    lab.ok("volume", "export", "-o", str(tmp_path / "small.tar"), "other")
    lab.ok("volume", "import", "--size", "4m", "third", str(tmp_path / "small.tar"))
    assert lab.ok("run", "--rm", "-v", "third:/d", "busybox", "stat", "-c", "%u %s", "/d/file") == "7 5"
    with open(tmp_path / "much", "wb") as file:
        file.write(os.urandom(6 << 20))
    subprocess.run(["tar", "-cf", tmp_path / "much.tar", "-C", tmp_path, "much"], check=True)
    done = lab("volume", "import", "--size", "4m", "full", str(tmp_path / "much.tar"))
    assert (done.code, "No space left on device" in done.err) == (1, True), done
    assert lab.ok("volume", "ls", "-q").split() == ["other", "small", "third"]


def test_what_is_no_volume_is_refused_and_makes_none(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no archive at all" * 100)
    lab.ok("volume", "create", "data")
    for words, text in (
        (("clone", "nope", "new"), "no such volume"),
        (("clone", "data", "data"), "there is a volume 'data' already"),
        (("clone", "data", "a*b"), "invalid characters"),
        (("import", "new", str(tmp_path / "text")), "the archive"),
        (("import", "new", str(tmp_path / "nope")), "No such file"),
        (("import", "--size", "1k", "new", str(tmp_path / "text")), "too small"),
        (("export", "nope", "-o", str(tmp_path / "x.tar")), "no such volume"),
    ):
        done = lab("volume", *words)
        assert (done.code != 0, text in done.err) == (True, True), (words, done)
    assert lab.ok("volume", "ls", "-q") == "data"
    assert not (tmp_path / "x.tar").exists()
    assert sorted(os.listdir(lab.paths.volumes)) == [".lock", "data"] or os.listdir(lab.paths.volumes) == ["data"]


@pytest.mark.parametrize("verb", ["clone", "import"])
def test_a_killed_one_leaves_no_volume_and_the_next_leaves_nothing_else(lab: Lab, tmp_path: Path, verb: str) -> None:
    chance, store = random.Random(_SEED), VolumeStore(lab.paths)
    lab.ok("volume", "create", "data")
    for number in range(1000):
        Path(store.data("data"), str(number)).write_text("text")
    lab.ok("volume", "export", "-o", str(tmp_path / "data.tar"), "data")
    words = ("clone", "data", "new") if verb == "clone" else ("import", "new", str(tmp_path / "data.tar"))
    for _ in range(_KILLS):
        begun = lab.begin("volume", *words)
        with contextlib.suppress(subprocess.TimeoutExpired):
            begun.wait(timeout=chance.uniform(0.2, 0.9))
        begun.send_signal(signal.SIGKILL)
        begun.communicate()
        if os.path.exists(store.path("new")):
            assert len(os.listdir(store.data("new"))) == 1000
            lab.ok("volume", "rm", "new")
    lab.ok("volume", *words)
    assert len(os.listdir(store.data("new"))) == 1000
    assert {name for name in os.listdir(lab.paths.volumes) if name != ".lock"} == {"data", "new"}
