"""`lab mount`: what a running container gets and loses, what its next start has, and what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from ..containers.conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def _destinations(lab: Lab) -> list[str]:
    return [each["Destination"] for each in json.loads(lab.ok("inspect", "-f", "{{json .Mounts}}", "web"))]


@pytest.mark.parametrize("users", [(), ("--userns", "private")])
def test_a_running_container_gets_mounts_and_keeps_them_over_a_restart(
    lab: Lab, tmp_path: Path, users: tuple[str, ...]
) -> None:
    (tmp_path / "file").write_text("of the host\n")
    lab.ok("run", "-d", "--name", "web", *users, "busybox", "sleep", "1000")
    bind = f"type=bind,src={tmp_path},dst=/new/host,ro"
    lab.ok("mount", "add", "-v", "data:/data", "--mount", bind, "--tmpfs", "/mem:size=1m,mode=700", "web")
    for restarts in range(2):
        if restarts:
            lab.ok("restart", "-t", "0", "web")
        script = "cat /new/host/file; touch /data/own; touch /new/host/x; grep -c ' /mem tmpfs' /proc/mounts"
        done = lab("exec", "web", "sh", "-c", script)
        assert (done.out, "Read-only file system" in done.err) == ("of the host\n1\n", True), done
        assert sorted(_destinations(lab)) == ["/data", "/new/host"]
        assert lab("volume", "rm", "data").code == 1
    lab.ok("mount", "rm", "web", "/data", "/new/host", "/mem")
    for restarts in range(2):
        if restarts:
            lab.ok("restart", "-t", "0", "web")
        assert lab.ok("exec", "web", "sh", "-c", "ls -A /data /new/host /mem") == "/data:\n\n/mem:\n\n/new/host:"
        assert _destinations(lab) == []
    lab.ok("volume", "rm", "data")


def test_a_mount_in_use_is_refused_unless_forced(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "web", "-v", "data:/data", "-w", "/data", "busybox", "sleep", "1000")
    done = lab("mount", "rm", "web", "/data")
    assert (done.code, "/data is in use by processes of container web" in done.err) == (1, True), done
    assert _destinations(lab) == ["/data"]
    lab.ok("mount", "rm", "-f", "web", "/data")
    assert lab("exec", "-w", "/", "web", "grep", " /data ", "/proc/mounts").code == 1
    assert _destinations(lab) == []


def test_what_cannot_be_mounted_or_unmounted_is_said_and_changes_nothing(lab: Lab) -> None:
    lab.ok("run", "-d", "--name", "web", "-v", "data:/data/in", "busybox", "sleep", "1000")
    for words, text in (
        (("add", "web"), "nothing is to be mounted"),
        (("add", "web", "-v", "other:/data/in"), "Duplicate mount point: /data/in"),
        (("add", "web", "-v", "other:/data"), "/data/in is mounted below /data"),
        (("add", "web", "--mount", "type=bind,src=/nope,dst=/x"), "bind source path does not exist: /nope"),
        (("add", "web", "-v", "other:/etc/passwd"), "/etc/passwd: Are you trying to mount a directory onto a file"),
        (("rm", "web", "/proc"), "nothing that was asked for is mounted at /proc"),
        (("rm", "web", "/data"), "nothing that was asked for is mounted at /data"),
        (("rm", "nope", "/data"), "No such container"),
    ):
        done = lab("mount", *words)
        assert (done.code != 0, text.lower() in done.err.lower()) == (True, True), (words, done)
    assert _destinations(lab) == ["/data/in"]
    lab.ok("stop", "-t", "0", "web")
    lab.ok("mount", "add", "web", "-v", "more:/more")
    assert _destinations(lab) == ["/data/in", "/more"]
    lab.ok("start", "web")
    lab.ok("exec", "web", "touch", "/more/x")


def test_of_a_bind_that_is_writable_below_only_the_top_is_read_only(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", tmp_path / "below"], check=True)
    try:
        lab.ok("run", "-d", "--name", "web", "busybox", "sleep", "1000")
        for mode, out in (("writable", "below"), ("enabled", "")):
            bind = f"type=bind,src={tmp_path},dst=/m,ro,bind-recursive={mode}"
            script = "touch /m/below/x 2>/dev/null && echo below; ! touch /m/y 2>/dev/null"
            assert lab.ok("run", "--rm", "--mount", bind, "busybox", "sh", "-c", script) == out
            lab.ok("mount", "add", "web", "--mount", bind)
            assert lab.ok("exec", "web", "sh", "-c", script) == out
            lab.ok("mount", "rm", "web", "/m")
    finally:
        subprocess.run(["umount", tmp_path / "below"], check=True)
