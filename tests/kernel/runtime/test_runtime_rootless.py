"""Containers of an ordinary user: no root, no subordinate ids, no cgroup."""

from __future__ import annotations

import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("user-namespace")]

USER = 65_534
_SESSION = Path(__file__).with_name("rootless_session.py")
_AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all")


def _interpreter() -> str:
    """Return an interpreter that is not in root's own home."""
    for program in (sys.executable, "/usr/bin/python3"):
        check = "import os; os.stat(os.path.realpath(os.sys.executable))"
        if subprocess.run((*_AS_USER, program, "-I", "-c", check), capture_output=True, check=False).returncode == 0:
            return program
    pytest.skip("no Python that an ordinary user may execute")


class Session:
    """A process of an ordinary user that runs containers for us."""

    def __init__(self, directory: Path) -> None:
        layer = directory / "layer"
        (layer / "bin").mkdir(parents=True)
        (layer / "old").mkdir()
        (layer / "old/file").touch()
        shutil.copy("/bin/busybox", layer / "bin")
        for applet in ("sh", "cat", "id", "ls", "sleep", "rm", "mkdir", "ps", "kill", "readlink"):
            (layer / "bin" / applet).symlink_to("busybox")
        for path in (directory, *directory.rglob("*")):
            os.chown(path, USER, USER, follow_symlinks=False)
        argv = (*_AS_USER, _interpreter(), str(_SESSION), str(directory / "root"), str(layer))
        environment = {name: value for name, value in os.environ.items() if name.startswith(("LAB_TEST", "PATH"))}
        found = (str(Path(lab.__file__).parents[1]), sysconfig.get_path("purelib"))
        environment |= {"PYTHONPATH": os.pathsep.join(found), "HOME": str(directory)}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._numbers = itertools.count(1)

    def ask(self, verb: str, *args: str, id: str = "", **changes: Any) -> Any:  # noqa: A002 - as the engine calls it
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"verb": verb, "id": id or f"c{next(self._numbers)}", "args": args, "changes": changes}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def shell(self, script: str, **changes: Any) -> tuple[int, str, str]:
        return tuple(self.ask("run", "/bin/sh", "-c", script, **changes))

    def close(self) -> int:
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._process.wait(60)


@pytest.fixture
def session() -> Iterator[Session]:
    directory = Path(tempfile.mkdtemp(prefix="lab-test-"))  # pytest's own are for root alone
    opened = Session(directory)
    yield opened
    assert opened.close() == 0
    assert [*(directory / "root").glob("containers/*")] == []
    shutil.rmtree(directory)


def test_it_is_root_inside_and_its_user_outside(session: Session) -> None:
    pid = session.ask("start", "/bin/sleep", "1000000", id="sleeping")
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in Path(f"/proc/{pid}/status").read_text()
    assert session.shell("id -u; cat /proc/self/uid_map; echo $$")[1].split() == ["0", "0", str(USER), "1", "1"]


def test_it_sees_its_image_and_can_change_it(session: Session) -> None:
    script = (
        "ls /; rm -r /old; mkdir /old; ls /old; echo x > /new; cat /new; ls -ld /proc/1 > /dev/null; echo y > /dev/null"
    )
    code, out, err = session.shell(script)
    assert (code, err) == (0, "")
    assert out.split() == ["bin", "dev", "old", "proc", "sys", "x"]


def test_it_is_as_confined_as_any(session: Session) -> None:
    _, out, err = session.shell("cat /proc/self/status; cat /proc/keys; echo x > /proc/sys/kernel/domainname")
    assert "Seccomp:\t2" in out
    assert "Read-only file system" in err


def test_it_has_a_loopback_of_its_own_or_the_hosts_network(session: Session) -> None:
    own = session.shell("/bin/busybox ip -o link; ls /sys/class/net")[1]
    assert own.count("LOOPBACK,UP") == 1
    code, out, err = session.shell("readlink /proc/self/ns/net; ls /sys/class/net", network_namespace="host")
    assert out.split()[0] == os.readlink("/proc/self/ns/net"), err
    assert code == 0


def test_a_program_is_executed_beside_the_main_one(session: Session) -> None:
    session.ask("start", "/bin/sleep", "1000000", id="sleeping")
    code, out, err = session.ask("exec", "/bin/sh", "-c", "id -u; cat /proc/1/cmdline; kill -9 $$", id="sleeping")
    assert out.startswith("0\n/bin/sleep\x001000000"), err
    assert code == 128 + 9
    assert session.ask("exec", "no-such", id="sleeping")[0] == "StartFailed"


def test_what_needs_root_is_said_in_one_sentence(session: Session) -> None:
    kind, message, hint = session.ask("run", "/bin/sh", memory_bytes=10_000_000)
    assert (kind, message) == ("UnavailableError", "limits need a cgroup, and an ordinary user has none of his own")
    assert hint
    kind, message, _ = session.ask("run", "/bin/sh", network="bridge")
    assert (kind, message) == ("UnavailableError", "a network that is connected to the host's needs root")


def test_another_user_cannot_be_had(session: Session) -> None:
    kind, message, _ = session.ask("run", "/bin/sh", user="7")
    assert kind == "StartFailed"
    assert "7: there is no such user in its user namespace" in message


def test_an_ordinary_user_makes_an_image_and_runs_it() -> None:
    home = Path(tempfile.mkdtemp(prefix="lab-test-"))
    os.chown(home, USER, USER)
    found = (str(Path(lab.__file__).parents[1]), sysconfig.get_path("purelib"))
    environment = {"HOME": str(home), "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(found)}
    argv = (*_AS_USER, _interpreter(), "-m", "lab", "--root", str(home / "root"))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run((*argv, *words), env=environment, capture_output=True, text=True, check=False)

    try:
        assert run("image", "bootstrap", "busybox").returncode == 0
        done = run("run", "--rm", "busybox", "sh", "-c", "id -u; echo x > /new; exit 7")
        assert (done.stdout, done.returncode) == ("0\n", 7), done.stderr
        assert "--network host" in done.stderr
    finally:
        _await_end_of_spawner(home)
        shutil.rmtree(home)


def _await_end_of_spawner(home: Path) -> None:
    """End the shared spawner, which would wait a while for further commands."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_text()
        except (OSError, ValueError):
            continue
        if str(home) in words and "main_shared" in words:
            descriptor = os.pidfd_open(int(pid))
            signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            select.select([descriptor], [], [], 30)
            os.close(descriptor)
