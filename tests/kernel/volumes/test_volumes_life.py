"""Volumes as users have them: what outlives what, what is in a new one, and who may remove it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from lab.container.volumes.store import VolumeStore

from ..containers.conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_DOCKERFILE = """FROM busybox
RUN mkdir -p /app/sub && echo hi > /app/f && ln -s f /app/l && ln /app/f /app/h && chown -R 7:8 /app && chmod 750 /app
VOLUME /app/sub
"""


@pytest.fixture
def image(lab: Lab, tmp_path: Path) -> str:
    """Return an image that has files, a link and a volume of its own."""
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    lab.ok("build", "-q", "--network", "none", "-t", "with-files", str(tmp_path))
    return "with-files"


def _volumes(lab: Lab) -> list[str]:
    return lab.ok("volume", "ls", "-q").split()


def test_a_named_volume_keeps_what_a_removed_container_wrote(lab: Lab) -> None:
    lab.ok("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/file")
    assert lab.ok("run", "--rm", "-v", "data:/e", "busybox", "cat", "/e/file") == "kept"


def test_anonymous_volumes_go_with_rm_alone(lab: Lab) -> None:
    lab.ok("run", "--rm", "-v", "/d", "busybox", "touch", "/d/file")
    assert _volumes(lab) == []
    lab.ok("run", "--name", "one", "-v", "/d", "-v", "data:/n", "busybox", "true")
    lab.ok("rm", "one")
    assert len(_volumes(lab)) == 2
    lab.ok("run", "--name", "two", "-v", "/d", "-v", "data:/n", "busybox", "true")
    lab.ok("rm", "-v", "two")
    assert len(_volumes(lab)) == 2
    assert "data" in _volumes(lab)


def test_a_new_volume_takes_the_images_content_with_owner_mode_and_links(lab: Lab, image: str) -> None:
    lab.ok("run", "--rm", "-v", "data:/app", image, "true")
    data = VolumeStore(lab.paths).data("data")
    top = os.stat(data)
    assert (top.st_uid, top.st_gid, top.st_mode & 0o7777) == (7, 8, 0o750)
    assert os.readlink(os.path.join(data, "l")) == "f"
    assert os.path.samefile(os.path.join(data, "f"), os.path.join(data, "h"))
    assert os.path.isdir(os.path.join(data, "sub"))
    assert sorted(os.listdir(VolumeStore(lab.paths).path("data"))) == ["_data", "volume.json"]


def test_a_volume_that_has_something_takes_nothing(lab: Lab, image: str) -> None:
    lab.ok("run", "--rm", "-v", "data:/d", "busybox", "touch", "/d/own")
    assert lab.ok("run", "--rm", "-v", "data:/app", image, "ls", "/app") == "own\nsub"


@pytest.mark.parametrize("flag", [("-v", "data:/app:nocopy"), ("--mount", "src=data,dst=/app,volume-nocopy")])
def test_a_volume_takes_nothing_where_that_is_not_wanted(lab: Lab, image: str, flag: tuple[str, str]) -> None:
    assert lab.ok("run", "--rm", *flag, image, "ls", "/app") == "sub"


def test_of_nested_mounts_the_longer_path_wins(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules/host").touch()
    (tmp_path / "code").touch()
    flags = ("-v", "/app/node_modules", "-v", f"{tmp_path}:/app:ro")
    script = "touch /app/node_modules/own && ls /app/node_modules /app; touch /app/x"
    done = lab("run", "--rm", *flags, "busybox", "sh", "-c", script)
    assert done.out == "/app:\ncode\nnode_modules\n\n/app/node_modules:\nown\n"
    assert "Read-only file system" in done.err


def test_a_used_volume_cannot_be_removed_or_renamed(lab: Lab) -> None:
    container_id = lab.ok("create", "-v", "data:/d", "busybox")
    for verb in (("rm", "data"), ("rename", "data", "other")):
        done = lab("volume", *verb)
        assert (done.code, f"volume is in use - [{container_id}]" in done.err) == (1, True)
    lab.ok("rm", container_id)
    lab.ok("volume", "rename", "data", "other")
    assert _volumes(lab) == ["other"]


def test_volumes_of_another_container_are_had_for_reading_alone_where_asked(lab: Lab) -> None:
    lab.ok("run", "--name", "one", "-v", "/d", "-v", "data:/n", "busybox", "touch", "/d/file")
    done = lab("run", "--rm", "--volumes-from", "one:ro", "busybox", "sh", "-c", "ls /d; touch /d/other")
    assert (done.out, "Read-only" in done.err) == ("file\n", True)
    assert len(_volumes(lab)) == 2  # the other's, which --rm does not take


def test_an_anonymous_volume_stays_as_long_as_another_has_it(lab: Lab) -> None:
    lab.ok("create", "--name", "one", "-v", "/d", "busybox")
    lab.ok("create", "--name", "two", "--volumes-from", "one", "busybox")
    lab.ok("rm", "-v", "one")
    assert len(_volumes(lab)) == 1


def test_a_subpath_is_of_the_volume_and_of_nothing_else(lab: Lab, image: str) -> None:
    lab.ok("run", "--rm", "-v", "data:/app", image, "ln", "-s", "/etc", "/app/out")
    mount = "src=data,dst=/d,volume-subpath="
    lab.ok("run", "--rm", "-v", "data:/app", "busybox", "touch", "/app/sub/inner")
    assert lab.ok("run", "--rm", "--mount", f"{mount}sub", "busybox", "ls", "/d") == "inner"
    for wrong, words in (("nope", "no such file"), ("../..", "relative path within"), ("out", "out of the volume")):
        done = lab("run", "--rm", "--mount", mount + wrong, "busybox", "true")
        assert (done.code, words in done.err.lower()) == (125, True), done


@pytest.mark.parametrize("users", [(), ("--userns", "private")])
def test_what_takes_the_place_of_a_subpath_is_found_when_the_container_starts(lab: Lab, users: tuple[str, ...]) -> None:
    whole = ("run", "--rm", "-v", "data:/data", "busybox", "sh", "-c")
    lab.ok(*whole, "mkdir -p /data/a/sub && echo inner > /data/a/sub/f && chmod -R 777 /data")
    subpath = "src=data,dst=/d,volume-subpath=a/sub"
    lab.ok("create", "--name", "victim", *users, "--mount", subpath, "busybox", "ls", "-A", "/d")
    assert lab.ok("start", "-a", "victim") == "f"
    for link in ("/", "../../../..", "/proc/self/root"):
        lab.ok(*whole, f"rm -rf /data/a/sub && ln -s {link} /data/a/sub")
        done = lab("start", "-a", "victim")
        assert (done.out, "leads out of the volume" in done.err) == ("", True), done
        copied = lab("cp", "victim:/d", "-")
        assert (copied.out, "leads out of the volume" in copied.err) == ("", True), copied
    lab.ok(*whole, "rm /data/a/sub && mkdir /data/b && touch /data/b/moved && ln -s ../b /data/a/sub")
    assert lab.ok("start", "-a", "victim") == "moved"


def test_a_missing_directory_is_made_for_v_and_refused_for_mount(lab: Lab, tmp_path: Path) -> None:
    lab.ok("run", "--rm", "-v", f"{tmp_path}/a/b:/d", "busybox", "true")
    assert os.path.isdir(tmp_path / "a/b")
    done = lab("run", "--rm", "--mount", f"type=bind,src={tmp_path}/c,dst=/d", "busybox", "true")
    assert (done.code, "bind source path does not exist" in done.err) == (125, True)


def test_a_volume_can_be_a_directory_of_the_host(lab: Lab, tmp_path: Path) -> None:
    options = (f"device={tmp_path}", "type=none", "o=bind")
    lab.ok("volume", "create", *(word for each in options for word in ("--opt", each)), "data")
    lab.ok("run", "--rm", "-v", "data:/d", "busybox", "touch", "/d/file")
    assert os.path.exists(tmp_path / "file")
    lab.ok("volume", "rm", "data")
    assert os.path.exists(tmp_path / "file")


def test_a_directory_on_another_file_system_takes_the_images_content_too(lab: Lab, image: str, tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        (tmp_path / ".lab.filling").mkdir()  # as a killed command leaves it
        (tmp_path / ".lab.filling" / "half").touch()
        options = (f"device={tmp_path}", "type=none", "o=bind")
        lab.ok("volume", "create", *(word for each in options for word in ("--opt", each)), "data")
        assert lab.ok("run", "--rm", "-v", "data:/app", image, "cat", "/app/f") == "hi"
        assert ".lab.filling" not in os.listdir(tmp_path)
        assert {"f", "h", "l"} <= set(os.listdir(tmp_path))
        assert os.stat(tmp_path / "f").st_ino == os.stat(tmp_path / "h").st_ino
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_prune_takes_anonymous_volumes_and_all_on_request(lab: Lab) -> None:
    anonymous = lab.ok("volume", "create")
    lab.ok("volume", "create", "--label", "keep=yes", "data")
    lab.ok("volume", "create", "other")
    assert anonymous in lab.ok("volume", "prune", "-f")
    assert _volumes(lab) == ["data", "other"]
    lab.ok("volume", "prune", "-af", "--filter", "label!=keep=yes")
    assert _volumes(lab) == ["data"]


def test_cp_reads_and_writes_volumes_of_stopped_and_running_containers(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    lab.ok("create", "--name", "one", "-v", "data:/d", "busybox", "sleep", "100")
    lab.ok("cp", str(tmp_path / "file"), "one:/d/stopped")
    lab.ok("start", "one")
    lab.ok("cp", str(tmp_path / "file"), "one:/d/running")
    assert sorted(os.listdir(VolumeStore(lab.paths).data("data"))) == ["running", "stopped"]
    assert "d/" not in lab.ok("diff", "one")


def test_inspect_tells_of_what_is_mounted(lab: Lab) -> None:
    lab.ok("create", "--name", "one", "-v", "data:/d:ro", "busybox")
    (found,) = json.loads(lab.ok("inspect", "-f", "{{json .Mounts}}", "one"))
    assert (found["Type"], found["Name"], found["RW"]) == ("volume", "data", False)
    assert lab.ok("ps", "-a", "--filter", "volume=data", "--format", "{{.Names}} {{.Mounts}}") == "one data"


def test_two_that_make_a_volume_at_once_both_see_it_whole(lab: Lab, image: str) -> None:
    words = ("run", "--rm", "-v", "data:/app", image, "sh", "-c", "cat /app/f /app/h /app/l")
    running = [lab.begin(*words) for _ in range(4)]
    outcomes = [each.communicate(timeout=60) for each in running]
    assert [out for out, _ in outcomes] == [b"hi\n" * 3] * 4, outcomes
    assert _volumes(lab) == ["data"]


def test_a_full_disk_in_a_volume_is_told_and_leaves_no_half(lab: Lab, image: str, tmp_path: Path) -> None:
    store = VolumeStore(lab.paths)
    os.makedirs(lab.paths.volumes, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", lab.paths.volumes], check=True)
    try:
        done = lab("run", "--rm", "-v", "data:/bin", image, "true")
        assert (done.code, "space" in done.err.lower()) == (125, True), done
        assert os.listdir(store.data("data")) == []
    finally:
        subprocess.run(["umount", lab.paths.volumes], check=True)
