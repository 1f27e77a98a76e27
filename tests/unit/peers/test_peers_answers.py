"""What the peers answer, in words captured from docker 20.10, podman 4.3, runc 1.1, crun 1.8, runsc 2022."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.errors import TargetError
from lab.linux import command
from lab.linux.command import Completed
from lab.paths import Paths
from lab.target.backends import cached_check
from lab.target.backends.engine_cli import _parent, read_execution
from lab.target.backends.oci_runtime import _complaint, _payload_code
from lab.target.backends.runtime_words import exit_code_of
from lab.target.spec import Availability

RUNC = "exec failed: unable to start container process: "
RUNSC = 'executing processes for container: executing command "{}" in sandbox: '
DOCKER = "OCI runtime exec failed: "
NO_DIRECTORY = 'chdir to cwd ("/nowhere") set in config.json failed: no such file or directory'
PATH = "[/usr/local/sbin /usr/local/bin /usr/sbin /usr/bin /sbin /bin]"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (f'{RUNC}exec: "/no/such": stat /no/such: no such file or directory', 127),
        (f'{RUNC}exec: "no-such": executable file not found in $PATH', 127),
        (f'{RUNC}exec: "/etc": permission denied', 126),
        (f"{RUNC}{NO_DIRECTORY}", None),
        ("executable file `/no/such` not found in $PATH: No such file or directory", 127),
        ("open executable: Operation not permitted", 126),
        ("chdir `/nowhere`: No such file or directory", None),
        (f"{RUNSC.format('/no/such')}failed to load /no/such: no such file or directory", 127),
        (f'{RUNSC.format("no-such")}error finding executable "no-such" in PATH {PATH}: no such file or directory', 127),
        (f"{RUNSC.format('/etc')}failed to load /etc: permission denied", 126),
        (f'{RUNSC.format("/x")}failed to find initial working directory "/nowhere": no such file or directory', None),
        ('waiting on PID 3 in sandbox "x": urpc method "containerManager.WaitPID" failed: EOF', None),
    ],
)
def test_a_runtimes_words_are_a_shells_exit_code_or_a_failure_of_its_own(words: str, code: int | None) -> None:
    assert exit_code_of(words) == code


def answer(code: int, stdout: str, stderr: str = "", *, running: bool = True) -> tuple[int, bytes]:
    done = Completed(("docker",), code, stdout.encode(), stderr.encode())
    execution = read_execution(done, engine="docker", is_running=lambda: running)
    return execution.exit_code, execution.stdout


def test_docker_says_126_for_a_missing_program_and_means_127() -> None:
    said = f'{DOCKER}{RUNC}exec: "no-such": executable file not found in $PATH: unknown\r\n'
    assert answer(126, said) == (127, b"")


def test_podman_says_so_on_standard_error() -> None:
    said = f'Error: runc: {RUNC}exec: "/etc": permission denied: OCI permission denied\n'
    assert answer(126, "", said) == (126, b"")


@pytest.mark.parametrize("prefix", [DOCKER, "Error: runc: "], ids=["docker", "podman"])
def test_a_missing_working_directory_is_no_answer_of_a_program(prefix: str) -> None:
    with pytest.raises(TargetError, match="/nowhere"):
        answer(126, f"{prefix}{RUNC}{NO_DIRECTORY}: unknown\r\n")


@pytest.mark.parametrize("code", [0, 1, 2, 125, 126, 127, 137])
def test_a_programs_own_words_are_its_own_whatever_its_exit_code(code: int) -> None:
    assert answer(code, "error: not found in the OCI runtime\n") == (code, b"error: not found in the OCI runtime\n")


def test_an_engine_that_has_no_such_container_failed_itself() -> None:
    with pytest.raises(TargetError, match="No such container: x"):
        answer(1, "", "Error: No such container: x\n", running=False)


def log(directory: Path, content: str) -> str:
    path = directory / "log"
    path.write_text(content)
    return str(path)


RUNC_ENTRY = '{"level":"error","msg":"exec failed: \\"/no\\": stat /no","time":"2026-11-24T07:28:14Z"}'
WARNING = '{"level":"warning","msg":"signal: killed","time":"2026-11-24T07:28:14Z"}'


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", ""),
        (RUNC_ENTRY + "\n", 'exec failed: "/no": stat /no'),
        (WARNING + "\n" + RUNC_ENTRY + "\n", 'exec failed: "/no": stat /no'),
        (WARNING + RUNC_ENTRY, 'exec failed: "/no": stat /no'),
        (WARNING + "\n", ""),
        ('{"level":"error","msg":"cut o', '{"level":"error","msg":"cut o'),
        ("panic: not JSON", ""),
    ],
    ids=["empty", "runc", "after a warning", "without newlines", "warning only", "cut off", "no JSON"],
)
def test_a_runtimes_log_is_read_for_its_first_error(tmp_path: Path, content: str, complaint: str) -> None:
    assert _complaint(log(tmp_path, content)) == complaint


def test_a_runtime_that_wrote_no_log_complained_of_nothing(tmp_path: Path) -> None:
    assert _complaint(str(tmp_path / "none")) == ""


@given(st.lists(st.tuples(st.sampled_from(["debug", "info", "warning", "error", "fatal"]), st.text())))
def test_any_log_of_whole_entries_gives_its_first_error(entries: list[tuple[str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        text = "\n".join(json.dumps({"level": level, "msg": message}) for level, message in entries)
        found = _complaint(log(Path(directory), text))
    assert found == next((message for level, message in entries if level in ("error", "fatal")), "")


def test_a_runtime_that_was_killed_by_a_signal_has_a_shells_exit_code() -> None:
    assert [_payload_code(code) for code in (0, 3, -9)] == [0, 3, 137]


def test_the_parent_of_a_process_is_read_past_any_name() -> None:
    assert _parent(os.getpid()) == (os.getppid(),)


def test_a_process_that_has_ended_has_no_parent() -> None:
    ended = command.spawn(("true",))
    ended.wait()

    assert _parent(ended.pid) == ()


@pytest.fixture
def asked(tmp_path: Path) -> Callable[..., tuple[Availability, int]]:
    """A cached check over a program of the test's own; returns the answer, and how often it was really tried."""
    tries: list[int] = []
    (tmp_path / "program").write_text("1")

    def ask(*, available: bool = True, extra: str = "") -> tuple[Availability, int]:
        def attempt() -> Availability:
            tries.append(1)
            return Availability(available=available, facts=(("version", "1"),))

        program = str(tmp_path / "program")
        found = cached_check.cached(Paths.under(str(tmp_path / "r")), "x", (program,), attempt, extra=extra)
        return found, len(tries)

    return ask


def test_a_good_answer_is_kept_and_a_bad_one_is_not(asked: Callable[..., tuple[Availability, int]]) -> None:
    assert asked(available=False) == (Availability(available=False, facts=(("version", "1"),)), 1)
    assert asked()[1] == 2
    assert asked() == (Availability(available=True, facts=(("version", "1"),)), 2)


def test_another_program_is_asked_again(tmp_path: Path, asked: Callable[..., tuple[Availability, int]]) -> None:
    asked()
    (tmp_path / "program").write_text("12")
    assert asked()[1] == 2
    assert asked(extra="y")[1] == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"identity": 1}', '{"facts": [["a"]]}'])
def test_a_kept_answer_that_is_damaged_is_asked_again(
    tmp_path: Path, asked: Callable[..., tuple[Availability, int]], content: str
) -> None:
    asked()
    (tmp_path / "r/cache/checks/x.json").write_text(content)
    assert asked()[1] == 2
