"""Debian's docker client, unmodified, on `lab serve`."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from kernel.api.conftest import DOCKER, Server
from kernel.registry.servers import registry
from processes import wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def test_run_gives_streams_and_exit_codes_as_docker_does(server: Server) -> None:
    done = server.docker("run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo bad >&2; exit 7", data=b"some input")
    assert (done.stdout, done.stderr, done.returncode) == (b"some input", b"bad\n", 7)
    missing = server.docker("run", "--rm", "busybox", "nosuch")
    assert missing.returncode == 127
    assert b'exec: "nosuch": executable file not found in $PATH' in missing.stderr
    forbidden = server.docker("run", "--rm", "busybox", "/etc")
    assert forbidden.returncode == 126
    assert server.docker("run", "--pull", "never", "nosuch").returncode == 125
    assert server.ok("ps", "-aq") == ""


def test_much_output_comes_whole_also_of_a_container_that_ends_at_once(server: Server) -> None:
    out = server.ok("run", "--rm", "busybox", "sh", "-c", "seq 200000")
    assert out.splitlines()[-1] == "200000"
    assert len(out.splitlines()) == 200000


def test_short_containers_that_are_to_go_are_gone_when_their_client_ends(server: Server) -> None:
    for _ in range(4):
        assert server.ok("run", "--rm", "-v", "/data", "busybox", "echo", "short") == "short"
        assert server.ok("ps", "-aq") == ""
    assert server.ok("volume", "ls", "-q") == ""


def test_a_detached_container_is_seen_and_worked_with(server: Server, tmp_path: Path) -> None:
    name = "web"
    server.ok("run", "-d", "--name", name, "-l", "a=b", "-m", "64m", "busybox", "sh", "-c", "echo up; exec sleep 100")
    assert (
        server.ok("ps", "--filter", "label=a=b", "--format", "{{.Names}} {{.Image}} {{.State}}")
        == "web busybox running"
    )
    assert server.ok("inspect", "-f", "{{.State.Status}} {{.HostConfig.Memory}}", name) == f"running {64 << 20}"
    done = server.docker("exec", "-i", name, "sh", "-c", "cat; echo e >&2; exit 3", data=b"in")
    assert (done.stdout, done.stderr, done.returncode) == (b"in", b"e\n", 3)
    assert "sleep 100" in server.ok("top", name)
    assert server.ok("stats", "--no-stream", "--format", "{{.Name}} {{.PIDs}}", name).split()[0] == name
    (tmp_path / "file").write_text("content")
    server.ok("cp", str(tmp_path / "file"), f"{name}:/tmp/inside")
    server.ok("cp", f"{name}:/tmp", str(tmp_path / "out"))
    assert (tmp_path / "out" / "inside").read_text() == "content"
    assert "A /tmp/inside" in server.ok("diff", name)
    assert server.docker("cp", f"{name}:/nosuch", str(tmp_path)).returncode == 1
    server.ok("rename", name, "other")
    server.ok("pause", "other")
    assert server.ok("ps", "--format", "{{.Status}}").endswith("(Paused)")
    server.ok("unpause", "other")
    assert server.ok("logs", "other") == "up"
    server.ok("restart", "-t", "0", "other")
    assert server.ok("logs", "other") == "up\nup"
    server.ok("stop", "-t", "0", "other")
    assert server.ok("wait", "other") == "137"
    assert server.docker("rm", "nosuch").returncode == 1


def test_logs_are_followed_to_the_end_and_a_reader_that_goes_is_let_go(server: Server) -> None:
    server.ok("run", "-d", "--name", "ticks", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert server.ok("logs", "-f", "ticks") == "1\n2\n3"
    server.ok("run", "-d", "--name", "quiet", "busybox", "sleep", "100")
    threads = _threads(server)
    commands = (("logs", "-f", "quiet"), ("attach", "--no-stdin", "quiet"), ("events",), ("wait", "quiet"))
    started = [subprocess.Popen((DOCKER, *words), env=server.environment) for words in commands]
    wait_until(lambda: _threads(server) >= threads + len(commands))
    for process in started:
        process.kill()
        process.wait()
    wait_until(lambda: _threads(server) <= threads)


def _threads(server: Server) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def test_a_terminal_is_one_and_its_keys_detach(server: Server) -> None:
    out, code = _type(server, ("run", "-it", "--rm", "--network", "none", "busybox", "sh"), b"tty; exit 5\n")
    assert b"/dev/pts/0" in out
    assert code == 5
    out, code = _type(server, ("run", "-it", "--name", "left", "--network", "none", "busybox", "sh"), b"\x10\x11")
    assert code == 0
    assert server.ok("ps", "--format", "{{.Names}}") == "left"
    out, code = _type(server, ("exec", "-it", "left", "sh"), b"tty; exit 6\n")
    assert b"/dev/pts/1" in out
    assert code == 6


def _type(server: Server, words: Sequence[str], typed: bytes) -> tuple[bytes, int]:
    """Run docker's client on a terminal, type when the shell asks, and return all that it shows, and its code."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(DOCKER, (DOCKER, *words), server.environment)
    shown, deadline, rest = b"", time.monotonic() + 30, typed
    while time.monotonic() < deadline:
        try:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            shown += os.read(terminal, 65536)
        except OSError:  # EIO: it has ended
            break
        if rest and b"# " in shown:
            os.write(terminal, rest)
            rest = b""
    os.close(terminal)
    return shown, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_image_is_built_and_a_failing_step_is_told_with_its_code(server: Server, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nARG WHO\nCOPY f /f\nRUN cat /f && echo $WHO\nCMD echo built\n")
    (tmp_path / "f").write_text("copied\n")
    built = server.ok("build", "-t", "app:1", "--build-arg", "WHO=somebody", "--label", "x=y", str(tmp_path))
    assert "Step 4/5 : RUN cat /f && echo $WHO\ncopied\nsomebody\n" in built
    assert built.endswith("Successfully tagged app:1")
    assert server.ok("build", "-q", "--build-arg", "WHO=somebody", "--label", "x=y", str(tmp_path)).startswith(
        "sha256:"
    )
    assert server.ok("run", "--rm", "app:1") == "built"
    assert server.ok("image", "inspect", "-f", "{{.Config.Labels.x}}", "app:1") == "y"
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 9\n")
    failed = server.docker("build", str(tmp_path))
    assert failed.returncode == 9
    assert b"returned a non-zero code: 9" in failed.stderr
    server.ok("rmi", "app:1")


def test_images_are_listed_named_saved_and_loaded(server: Server, tmp_path: Path) -> None:
    server.ok("tag", "busybox", "named:2")
    server.ok("save", "-o", str(tmp_path / "image.tar"), "named:2")
    server.ok("rmi", "named:2")
    assert server.ok("load", "-i", str(tmp_path / "image.tar")) == "Loaded image: named:2"
    assert "named:2" in server.ok("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines()
    assert "busybox" in server.ok("history", "--no-trunc", "named:2")
    server.ok("rmi", "named:2")


@pytest.mark.needs("docker-registry")
def test_an_image_is_pushed_and_pulled_again(server: Server, tmp_path: Path) -> None:
    with registry(tmp_path / "registry") as host:
        name = f"{host}/app:3"
        server.ok("tag", "busybox", name)
        assert "app" in server.ok("push", name)
        server.ok("rmi", name)
        assert server.docker("pull", f"{host}/app:nosuch").returncode == 1
        assert f"Downloaded newer image for {name}" in server.ok("pull", name)
        server.ok("rmi", name)
        assert server.ok("run", "--rm", name, "echo", "fetched") == "fetched"
        server.ok("rmi", name)


def test_networks_and_volumes_are_made_used_and_removed(server: Server) -> None:
    server.ok("network", "create", "--subnet", "10.219.7.0/24", "--label", "q=1", "here")
    server.ok("run", "-d", "--name", "one", "--network", "here", "--network-alias", "uno", "busybox", "sleep", "100")
    told = json.loads(server.ok("network", "inspect", "here"))[0]
    assert [each["Name"] for each in told["Containers"].values()] == ["one"]
    server.ok("network", "disconnect", "here", "one")
    server.ok("network", "connect", "--ip", "10.219.7.9", "here", "one")
    address = '{{(index .NetworkSettings.Networks "here").IPAddress}}'
    assert server.ok("inspect", "-f", address, "one") == "10.219.7.9"
    server.ok("rm", "-f", "one")
    server.ok("network", "rm", "here")
    server.ok("volume", "create", "data")
    server.ok("run", "--rm", "-v", "data:/d", "busybox", "sh", "-c", "echo kept > /d/f")
    assert server.ok("run", "--rm", "--mount", "type=volume,source=data,target=/d", "busybox", "cat", "/d/f") == "kept"
    assert server.docker("volume", "rm", "nosuch").returncode == 1
    server.ok("volume", "rm", "data")


def test_events_tell_of_a_container_in_order(server: Server) -> None:
    server.ok("run", "--rm", "--name", "told", "busybox", "true")
    until = str(int(time.time()) + 1)  # docker asks in whole seconds
    words = ("events", "--since", "1m", "--until", until, "--filter", "container=told", "--format", "{{.Action}}")
    out = server.ok(*words).split()
    assert out == ["create", "attach", "start", "die", "destroy"]


def test_who_is_attached_misses_nothing_when_the_supervisor_is_killed(server: Server) -> None:
    counts = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 3"
    argv = (DOCKER, "run", "--network", "none", "--name", "counts", "busybox", "sh", "-c", counts)
    with subprocess.Popen(argv, env=server.environment, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == b"1\n"
        os.kill(server.supervisor(), signal.SIGKILL)
        assert client.stdout.read().split() == [str(number).encode() for number in range(2, 41)]
        assert client.wait(30) == 3


def test_a_server_that_is_killed_loses_nothing(server: Server) -> None:
    server.ok("run", "-d", "--name", "stays", "busybox", "sh", "-c", "echo before; exec sleep 100")
    pid = server.ok("inspect", "-f", "{{.State.Pid}}", "stays")
    server.end(signal.SIGKILL)
    server.begin_again()
    assert server.ok("inspect", "-f", "{{.State.Pid}}", "stays") == pid
    assert server.ok("logs", "stays") == "before"
    assert server.docker("exec", "stays", "sh", "-c", "exit 4").returncode == 4
    assert server.end() == 0
    assert not os.path.exists(server.socket)


def test_a_container_calls_another_as_its_link_says(server: Server) -> None:
    server.ok("network", "create", "--subnet", "10.219.8.0/24", "linked")
    server.ok("run", "-d", "--name", "store", "--network", "linked", "busybox", "sleep", "100")
    lines = server.ok("run", "--rm", "--network", "linked", "--link", "store:db", "busybox", "cat", "/etc/hosts")
    assert "10.219.8.2\tdb " in lines
    server.ok("create", "--name", "idle", "busybox")
    for name, words in (
        ("nosuch", b"could not get container for nosuch: No such container: nosuch"),
        ("idle", b"Cannot link to a non running container: /idle AS"),
    ):
        argv = (DOCKER, "run", "--rm", "--link", f"{name}:db", "busybox", "true")
        assert words in subprocess.run(argv, env=server.environment, capture_output=True, timeout=60).stderr
    server.ok("rm", "-f", "store")
    server.ok("network", "rm", "linked")
