"""`lab build` as a command: contexts, output, exit codes, and what is left when it is killed."""

from __future__ import annotations

import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import pytest

from lab.container.image.build_cache import BuildCache
from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import mount_points_below

if TYPE_CHECKING:
    from conftest import Yard

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

TIMEOUT_S = 120


def _argv(yard: Yard, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "lab", "--root", yard.paths.root, "build", "--network=none", *arguments]


def _lab(yard: Yard, *arguments: str, stdin: bytes = b"", **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        _argv(yard, *arguments), input=stdin, capture_output=True, timeout=TIMEOUT_S, env={**os.environ, **environment}
    )


def _dockerfile(yard: Yard, text: str, **files: str) -> None:
    yard.write({"Dockerfile": f"FROM busybox\n{text}\n", **files})


def test_quiet_writes_the_id_and_nothing_else(yard: Yard, tmp_path: object) -> None:
    _dockerfile(yard, "RUN echo hi")
    done = _lab(yard, "-q", "-t", "app", "-t", "other:1", "--iidfile", f"{tmp_path}/id", yard.context)
    image = yard.store.resolve("app")
    assert (done.stdout.decode(), done.stderr.decode(), done.returncode) == (f"{image.config_digest}\n", "", 0)
    with open(f"{tmp_path}/id") as file:
        assert file.read() == image.config_digest
    assert yard.store.resolve("other:1").config_digest == image.config_digest


def test_progress_goes_to_standard_error_and_the_result_to_standard_output(yard: Yard) -> None:
    _dockerfile(yard, "RUN echo hi\nCMD x")
    done = _lab(yard, "-t", "app", yard.context)
    short = yard.store.resolve("app").config_digest.removeprefix("sha256:")[:12]
    assert done.stdout.decode() == f"Successfully built {short}\nSuccessfully tagged app:latest\n"
    told = done.stderr.decode()
    assert "#2 [2/3] RUN echo hi\n" in told
    assert " hi\n" in told
    assert "#3 DONE" in told
    again = _lab(yard, "-t", "app", yard.context)
    assert again.stderr.decode().count("CACHED") == 2


def test_a_failure_gives_the_commands_code_and_repeats_its_output(yard: Yard) -> None:
    _dockerfile(yard, "RUN true\nRUN echo why && exit 42")
    done = _lab(yard, "-q", yard.context)
    told = done.stderr.decode()
    assert done.returncode == 42
    assert " > [3/3] RUN echo why && exit 42:\nwhy\n" in told
    assert "Dockerfile:3: RUN echo why && exit 42: the command" in told
    assert "Traceback" not in told
    _dockerfile(yard, "RUM x")
    assert _lab(yard, yard.context).returncode == 1
    assert _lab(yard, "/none").returncode == 1
    assert _lab(yard, "--no-such-flag", yard.context).returncode == 125


def test_the_dockerfile_may_come_from_standard_input_or_another_file(yard: Yard) -> None:
    yard.write({"a": "1", "x/other": "FROM busybox\nCOPY a /a\nENV from=other", "x/other.dockerignore": "b"})
    assert _lab(yard, "-t", "one", "-f", "-", yard.context, stdin=b"FROM busybox\nCOPY a /a").returncode == 0
    assert yard.read(yard.store.resolve("one"), "/a") == "1"
    assert _lab(yard, "-t", "two", "-f", f"{yard.context}/x/other", yard.context).returncode == 0
    assert yard.store.resolve("two").config.config.env[-1] == "from=other"
    assert _lab(yard, "-t", "three", "-", stdin=b"FROM busybox\nENV x=1").returncode == 0
    assert yard.store.resolve("three").config.config.env[-1] == "x=1"
    done = _lab(yard, "-", stdin=b"FROM busybox\nCOPY a /a")
    assert (done.returncode, b"not found" in done.stderr) == (1, True)


def _archive(compression: str, **files: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.uid, entry.mode = len(content), 77, 0o600
            tar.addfile(entry, io.BytesIO(content.encode()))
    return buffer.getvalue()


@pytest.mark.parametrize("compression", ["", "gz", "xz", "bz2"])
def test_the_context_may_be_an_archive_on_standard_input(yard: Yard, compression: str) -> None:
    files = {"Dockerfile": "FROM busybox\nCOPY . /x", ".dockerignore": "b", "a": "1", "b": "2"}
    done = _lab(yard, "-t", "app", "-", stdin=_archive(compression, **files))
    assert done.returncode == 0, done.stderr.decode()
    found = yard.files(yard.store.resolve("app"), "x")
    assert sorted(found) == [".dockerignore", "Dockerfile", "a"]
    assert (found["a"].owner, found["a"].mode) == ((0, 0), "-rw-------")


def test_an_archive_cannot_leave_its_directory(yard: Yard) -> None:
    done = _lab(yard, "-", stdin=_archive("", **{"../../out": "x", "Dockerfile": "FROM busybox"}))
    assert (done.returncode, b"leaves the layer's root" in done.stderr) == (1, True)


def test_the_context_may_be_a_repository(yard: Yard) -> None:
    yard.write({"repo/sub/Dockerfile": "FROM busybox\nCOPY a /a", "repo/sub/a": "one"})
    repository = f"{yard.context}/repo"
    git = ["git", "-C", repository, "-c", "user.name=x", "-c", "user.email=x@x"]
    for arguments in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "1"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)
    yard.write({"repo/sub/a": "two"})
    subprocess.run([*git, "commit", "-qam", "2"], check=True)
    for fragment, content in (("#v1:sub", "one"), ("#main:sub", "two"), ("#:sub", "two")):
        done = _lab(yard, "-q", "-t", "app", f"file://{repository}{fragment}")
        assert done.returncode == 0, done.stderr.decode()
        assert yard.read(yard.store.resolve("app"), "/a") == content
    image = yard.build(f"ADD file://{repository}#v1 /r\nADD --keep-git-dir file://{repository} /k")
    assert yard.read(image, "/r/sub/a") == "one"
    assert {".git" in path for path in yard.files(image, "r")} == {False}
    assert "k/.git" in yard.files(image)
    done = _lab(yard, f"file://{repository}#none:sub")
    assert (done.returncode, b"git fetch" in done.stderr) == (1, True)


@contextmanager
def _served(directory: str) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=directory)) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def test_urls_are_contexts_and_sources_of_add(yard: Yard) -> None:
    yard.write({"a.txt": "1"})
    os.utime(f"{yard.context}/a.txt", (1000, 2000))
    with open(f"{yard.context}/c.tar", "wb") as file:
        file.write(_archive("", Dockerfile="FROM busybox\nCOPY a /a", a="2"))
    with _served(yard.context) as url:
        image = yard.build(f"ADD {url}/a.txt /x/\nADD --chmod=755 {url}/a.txt?q /y\nADD {url}/c.tar /z/")
        files = yard.files(image)
        assert (files["x/a.txt"].mode, files["x/a.txt"].mtime_s, files["y"].mode) == ("-rw-------", 2000, "-rwxr-xr-x")
        assert "z/c.tar" in files  # only archives of the context are unpacked
        assert _lab(yard, "-q", "-t", "app", f"{url}/c.tar").returncode == 0
        assert yard.read(yard.store.resolve("app"), "/a") == "2"


def test_a_shell_opens_in_the_step_that_failed(yard: Yard) -> None:
    _dockerfile(yard, "ENV e=1\nWORKDIR /w\nRUN echo half > made && exit 3")
    done = _lab(yard, "--on-failure", "shell", yard.context, stdin=b"pwd; cat made; echo $e; touch more\n")
    assert (done.stdout.decode(), done.returncode) == ("/w\nhalf\n1\n", 3)
    assert _lab(yard, "--on-failure", "shell", "-").returncode == 1


def test_a_shell_in_a_failed_step_has_a_terminal_if_we_have_one(yard: Yard) -> None:
    _dockerfile(yard, "RUN echo half > /made && exit 3")
    master, slave = os.openpty()
    process = subprocess.Popen(
        _argv(yard, "--on-failure", "shell", yard.context),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    _type(master, b"# ", b"tty; cat /made\n")
    seen = _type(master, b"half", b"exit\n")
    while data := _read(master):
        seen += data
    os.close(master)
    assert process.wait(TIMEOUT_S) == 3
    assert b"/dev/pts/0" in seen


def _type(master: int, prompt: bytes, text: bytes) -> bytes:
    seen = b""
    while prompt not in seen:
        data = _read(master)
        assert data, seen
        seen += data
    os.write(master, text)
    return seen


def _read(master: int) -> bytes:
    try:
        return os.read(master, 4096)
    except OSError:  # EIO: the other end has gone
        return b""


def test_what_builds_keep_is_removed_when_asked(yard: Yard) -> None:
    _dockerfile(yard, "RUN true")
    _lab(yard, yard.context)
    argv = [sys.executable, "-m", "lab", "--root", yard.paths.root, "builder", "prune"]
    asked = subprocess.run(argv, input=b"n\n", capture_output=True, timeout=TIMEOUT_S)
    assert (asked.returncode, asked.stdout.endswith(b"[y/N] "), yard.cache.size_bytes() > 0) == (0, True, True)
    done = subprocess.run([*argv, "-f"], capture_output=True, timeout=TIMEOUT_S)
    assert (done.returncode, done.stdout.startswith(b"Total reclaimed space:"), yard.cache.size_bytes()) == (0, True, 0)


def test_secrets_come_from_files_and_variables(yard: Yard) -> None:
    _dockerfile(
        yard, "RUN --mount=type=secret,id=a --mount=type=secret,id=b cat /run/secrets/a /run/secrets/b", s="one "
    )
    done = _lab(
        yard, "--secret", f"id=a,src={yard.context}/s", "--secret", "id=b,env=SECRET", yard.context, SECRET="two"
    )
    assert b"one two" in done.stderr
    assert _lab(yard, "--secret", "id=a,src=/none", yard.context).returncode == 1


def test_build_arguments_may_come_from_the_environment(yard: Yard) -> None:
    _dockerfile(yard, "ARG a\nARG b=2\nRUN echo $a-$b")
    assert b" 1-2\n" in _lab(yard, "--build-arg", "a", "--build-arg", "b", yard.context, a="1").stderr
    assert b"[none] were not consumed" in _lab(yard, "--build-arg", "none=1", yard.context).stderr


def test_commands_can_be_limited(yard: Yard) -> None:
    _dockerfile(
        yard, "ENV A=image\nRUN ulimit -n; df -k /dev/shm | tail -1; head -c 200000000 /dev/zero | tail; echo $A"
    )
    limits = ("--memory", "32m", "--memory-swap", "32m", "--shm-size", "2m", "--ulimit", "nofile=77:99")
    told = _lab(yard, *limits, yard.context).stderr.decode()
    assert " 77\n" in told
    assert " 2048 " in told
    assert "Killed" in told


def test_the_hosts_certificates_are_lent_and_not_kept(yard: Yard) -> None:
    _dockerfile(yard, "RUN wc -l < $SSL_CERT_FILE && cat $APT_CONFIG")
    assert _lab(yard, yard.context).returncode != 0
    done = _lab(yard, "-t", "app", "--trust-host-ca", yard.context)
    assert b"CaInfo" in done.stderr
    image = yard.store.resolve("app")
    assert yard.changed(image) == []
    assert not any("SSL_CERT" in line for line in image.config.config.env)


def test_source_date_epoch_gives_the_same_bytes_anywhere(yard: Yard) -> None:
    text = (
        "COPY a /x/a\nRUN mkdir /d && echo 1 > /d/f && ln -s f /d/l && rm /etc/shells\nWORKDIR /new\nCOPY <<E /h\nx\nE"
    )
    _dockerfile(yard, text, a="1")
    digests = []
    for attempt in range(2):
        os.utime(f"{yard.context}/a", (time.time() + attempt, time.time() + attempt))
        done = _lab(yard, "-q", "--no-cache", "-t", "app", yard.context, SOURCE_DATE_EPOCH="1234567890")
        assert done.returncode == 0, done.stderr.decode()
        digests.append(yard.store.resolve("app").manifest_digest)
        time.sleep(1.1 - time.time() % 1 if attempt == 0 else 0)  # into another second of the clock
    assert digests[0] == digests[1]
    image = yard.store.resolve("app")
    assert image.config.created == "2009-02-13T23:31:30Z"
    assert max(each.mtime_s for path, each in yard.files(image).items() if path in yard.changed(image, 2)) == 1234567890


def test_stages_are_built_side_by_side(yard: Yard) -> None:
    text = "".join(
        f"FROM busybox AS s{n}\nRUN touch /m/{n}; while [ ! -e /m/{1 - n} ]; do sleep 0.01; done\n" for n in (0, 1)
    )
    text = text.replace("RUN ", "RUN --mount=type=cache,target=/m timeout 30 sh -c '").replace("done\n", "done'\n")
    yard.build(f"{text}FROM busybox\nCOPY --from=s0 /etc/passwd /0\nCOPY --from=s1 /etc/passwd /1")


def test_two_builds_of_one_context_at_once_end_well(yard: Yard) -> None:
    _dockerfile(yard, "COPY . /x\nRUN sleep 0.2; head -c 100000 /dev/urandom > /r\nRUN sha256sum /r > /s", a="1")
    running = [
        subprocess.Popen(_argv(yard, "-q", "-t", f"app{n}", yard.context), stderr=subprocess.PIPE) for n in range(4)
    ]
    for process in running:
        _, told = process.communicate(timeout=TIMEOUT_S)
        assert (process.returncode, told) == (0, b"")
    for n in range(4):
        image = yard.store.resolve(f"app{n}")
        with yard.root(image) as root:
            done = subprocess.run(["sha256sum", f"{root}/r"], capture_output=True, check=True)
            assert done.stdout.split()[0] == yard.read_in(root, "s").encode().split()[0]
    assert [error for _, error in yard.store.verify() if error] == []


def test_an_interrupted_build_leaves_nothing_running(yard: Yard) -> None:
    _dockerfile(yard, "RUN echo up; sleep 1000")
    process = subprocess.Popen(_argv(yard, yard.context), stderr=subprocess.PIPE)
    _read_until(process, b" up\n")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130
    assert yard.engine.list() == ()
    assert os.listdir(f"{yard.paths.builds}/work") == []


def _read_until(process: subprocess.Popen[bytes], text: bytes) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if line.endswith(text):
            return
    raise AssertionError("it never came")


def test_a_killed_build_is_cleared_away_by_the_next(yard: Yard) -> None:
    mount = "--mount=from=busybox,target=/b"
    _dockerfile(yard, f"RUN {mount} echo one\nCOPY big /big\nRUN {mount} sleep 0.05", big="x" * 3_000_000)
    for delay_ms in range(0, 1500, 100):
        process = subprocess.Popen(_argv(yard, "--no-cache", "-t", "app", yard.context), stderr=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL)  # fmt: skip
        try:
            process.wait(0.3 + delay_ms / 1000)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    done = _lab(yard, "-t", "last", yard.context)
    assert done.returncode == 0, done.stderr.decode()
    assert [error for _, error in yard.store.verify() if error] == []
    assert os.listdir(f"{yard.paths.builds}/work") == []
    assert mount_points_below(yard.paths.root) == ()
    assert yard.engine.list() == ()
    ImageStore.open(yard.paths).resolve("last")
    assert BuildCache(yard.paths.builds).prune() > 0


def test_the_check_finds_and_removes_what_a_killed_build_left(yard: Yard) -> None:
    _dockerfile(yard, "RUN --mount=from=busybox,target=/b echo up; sleep 1000")
    process = subprocess.Popen(_argv(yard, yard.context), stderr=subprocess.PIPE)
    _read_until(process, b" up\n")
    process.kill()
    process.communicate(timeout=TIMEOUT_S)
    argv = [sys.executable, "-m", "lab", "--root", yard.paths.root, "system", "check"]
    done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S)
    assert (b"build " in done.stdout, done.returncode) == (True, 0), done
    assert mount_points_below(yard.paths.root) == ()
    assert os.listdir(f"{yard.paths.builds}/work") == os.listdir(yard.paths.containers) == []


def test_a_full_disk_ends_with_a_message_and_a_whole_store(yard: Yard) -> None:
    _dockerfile(yard, "RUN dd if=/dev/zero of=/big bs=1M count=200", x="")
    small = f"{yard.paths.root}/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", small], check=True)
    try:
        subprocess.run(["cp", "-a", yard.paths.images, f"{small}/images"], check=True)
        argv = [word if word != yard.paths.root else small for word in _argv(yard, "-t", "app", yard.context)]
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S)
        assert done.returncode == 1
        assert b"No space left on device" in done.stderr
        _dockerfile(yard, "COPY big /big", big="y" * 60_000_000)
        done = subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S)
        assert b"lab system prune" in done.stderr
        assert os.listdir(f"{small}/builds/work") == []
        _dockerfile(yard, "RUN true")
        assert subprocess.run(argv, capture_output=True, timeout=TIMEOUT_S).returncode == 0
    finally:
        subprocess.run(["umount", "-l", small], check=True)
