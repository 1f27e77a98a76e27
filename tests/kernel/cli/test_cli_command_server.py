"""Commands that a server's worker carries out: in nothing but time are they to differ from a process of one's own."""

from __future__ import annotations

import os
import pty
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import SWITCH, TIMEOUT_S, Script, environment, wait_until

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("root"),
    pytest.mark.needs("overlay"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="without a compiler there is no client"),
]

EXIT_SERVER_DIED = 125
AT_ONCE = 100


def _is_stopped(pid: int) -> bool:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
        return file.read().rpartition(")")[2].split()[0] == "T"


@pytest.fixture
def served(lab: Script) -> Iterator[Script]:
    """Return the script when its server stands ready, and see that no command was the end of it."""
    lab.await_server()
    yield lab
    assert lab.servers()


def test_the_first_command_is_carried_out_and_starts_a_server_for_the_next(lab: Script) -> None:
    assert lab("run", "--rm", "busybox", "echo", "one").stdout == "one\n"
    lab.await_server()
    begun = lab.begin("run", "--rm", "-i", "busybox", "cat")
    wait_until(lab.workers)
    assert begun.communicate(b"two\n", timeout=TIMEOUT_S) == (b"two\n", b"")
    assert begun.returncode == 0
    wait_until(lambda: not lab.workers())


def test_exit_codes_and_both_outputs_come_through(served: Script) -> None:
    done = served("run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert served("run", "--rm", "busybox", "/none").returncode == 127
    assert served("rm", "none").returncode == 1
    assert served("run", "--no-such-flag").returncode == 125


def test_directory_umask_and_environment_are_the_commands_own(served: Script, tmp_path: Path) -> None:
    argv = ("run", "--rm", "-e", "FROM_CALLER", "--cidfile", "id", "busybox", "sh", "-c", "echo $FROM_CALLER")
    done = served(*argv, cwd=tmp_path, env=environment(FROM_CALLER="yes"), preexec_fn=lambda: os.umask(0o137))
    assert done.stdout == "yes\n", done
    assert (tmp_path / "id").stat().st_mode & 0o777 == 0o640
    assert served("run", "--rm", "-e", "FROM_CALLER", "busybox", "sh", "-c", "echo $FROM_CALLER").stdout == "\n"


def test_a_directory_that_is_gone_is_no_fault_of_the_server(served: Script, tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()
    done = served("ps", "-q", cwd=here, preexec_fn=lambda: here.rmdir())
    assert (done.returncode, done.stderr) == (0, "")


def test_signals_reach_the_container(served: Script) -> None:
    begun = served.begin(
        "run", "--rm", "busybox", "sh", "-c", "trap 'exit 9' TERM; echo up; while :; do sleep .05; done"
    )
    assert begun.stdout is not None
    assert begun.stdout.readline() == b"up\n"
    begun.terminate()
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == 9


def test_ctrl_c_ends_a_command_as_it_does_without_a_server(served: Script) -> None:
    begun = served.begin("events")
    wait_until(served.workers)
    begun.send_signal(signal.SIGINT)
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == 130
    wait_until(lambda: not served.workers())


def test_a_signal_that_kills_the_worker_kills_the_command_in_the_same_way(served: Script) -> None:
    begun = served.begin("events")
    wait_until(served.workers)
    begun.terminate()
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == -signal.SIGTERM


def test_a_signal_that_the_caller_ignores_is_ignored(served: Script) -> None:
    begun = served.begin("events", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN))
    wait_until(served.workers)
    (worker,) = served.workers()
    with open(f"/proc/{worker}/status", encoding="utf-8") as file:
        ignored = int(next(line for line in file if line.startswith("SigIgn")).split()[1], 16)
    assert ignored >> (signal.SIGINT - 1) & 1
    begun.terminate()
    begun.communicate(timeout=TIMEOUT_S)


def test_killing_the_command_kills_its_worker(served: Script) -> None:
    begun = served.begin("events")
    wait_until(served.workers)
    begun.kill()
    begun.communicate(timeout=TIMEOUT_S)
    wait_until(lambda: not served.workers())


def test_ctrl_z_stops_the_work_and_fg_goes_on_with_it(served: Script) -> None:
    begun = served.begin("events", process_group=0)  # not an orphaned group, which the kernel does not stop
    wait_until(served.workers)
    (worker,) = served.workers()
    begun.send_signal(signal.SIGTSTP)
    wait_until(lambda: _is_stopped(begun.pid) and _is_stopped(worker))
    begun.send_signal(signal.SIGCONT)
    wait_until(lambda: not _is_stopped(worker))
    begun.send_signal(signal.SIGINT)
    begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == 130


def test_a_controlling_terminal_interrupts_and_resizes(served: Script) -> None:
    pid, master = pty.fork()
    if pid == 0:
        script = "trap 'echo was interrupted; exit 5' INT; echo up; while :; do sleep .05; done"
        os.execve(served.program, served.argv("run", "--rm", "-it", "busybox", "sh", "-c", script), environment())
    shown = b""
    while b"up" not in shown:
        shown += os.read(master, 1024)
    os.write(master, b"\x03")
    while b"was interrupted" not in shown:
        shown += os.read(master, 1024)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5
    os.close(master)


def test_a_reader_that_goes_away_ends_the_command(served: Script) -> None:
    served("run", "--name", "much", "busybox", "seq", "200000")
    begun = served.begin("logs", "much")
    assert begun.stdout is not None
    assert begun.stdout.readline() == b"1\n"
    begun.stdout.close()
    begun.wait(timeout=TIMEOUT_S)
    assert begun.returncode != 0
    wait_until(lambda: not served.workers())


def test_killing_the_server_is_told_and_does_not_hold_up_the_next_command(lab: Script) -> None:
    server = lab.await_server()
    begun = lab.begin("events")
    wait_until(lab.workers)
    (worker,) = lab.workers()
    os.kill(server, signal.SIGKILL)
    _, said = begun.communicate(timeout=TIMEOUT_S)
    assert begun.returncode == EXIT_SERVER_DIED
    assert b"the command server has ended" in said
    wait_until(lambda: not os.path.exists(f"/proc/{worker}"))
    assert lab("ps", "-q").returncode == 0
    wait_until(lambda: lab.servers() and lab.servers() != [server])


def test_a_server_that_does_not_answer_is_not_waited_for(lab: Script) -> None:
    server = lab.await_server()
    os.kill(server, signal.SIGSTOP)
    assert lab("run", "--rm", "busybox", "echo", "here").stdout == "here\n"
    os.kill(server, signal.SIGCONT)
    assert lab("ps", "-q").returncode == 0


@pytest.mark.parametrize("how", [{"preexec_fn": lambda: os.nice(3)}, {"env": environment(PYTHONPATH="/none")}])
def test_commands_of_another_kind_are_not_the_servers(lab: Script, how: dict[str, object]) -> None:
    lab.await_server()
    begun = lab.begin("events", **how)
    wait_until(lambda: _has_inotify(begun.pid))
    assert lab.workers() == []
    begun.kill()
    begun.communicate(timeout=TIMEOUT_S)


def test_a_server_whose_code_was_changed_takes_no_further_command(lab: Script) -> None:
    server = lab.await_server()
    with lab.program.with_name("lab-command-server").open("a") as script:
        script.write("\n")
    begun = lab.begin("events")
    wait_until(lambda: _has_inotify(begun.pid))
    wait_until(lambda: server not in lab.servers())
    begun.kill()
    begun.communicate(timeout=TIMEOUT_S)


def _has_inotify(pid: int) -> bool:
    directory = f"/proc/{pid}/fd"
    try:
        return any("inotify" in os.readlink(f"{directory}/{name}") for name in os.listdir(directory))
    except FileNotFoundError:
        return False


def test_the_server_can_be_switched_off(lab: Script) -> None:
    assert lab("ps", env=environment(**{SWITCH: "off"})).returncode == 0
    assert lab.servers() == []


def test_the_server_ends_when_its_root_goes(lab: Script) -> None:
    lab.await_server()
    shutil.rmtree(lab.paths.run)
    wait_until(lambda: not lab.servers())
    os.mkdir(lab.paths.run)


def test_the_server_ends_when_nobody_needs_it_and_leaves_no_socket(lab: Script) -> None:
    (name,) = _socket_names(lab)
    program = (
        f"from lab.cli import command_server as server\nserver._TICK_MS = 10\nserver.serve({lab.paths.run!r}, {name!r})"
    )
    with open(os.devnull, "rb") as lock:
        os.dup2(lock.fileno(), 3) if lock.fileno() != 3 else None
        subprocess.run((sys.executable, "-P", "-c", program), check=True, timeout=TIMEOUT_S, pass_fds=(3,))
    assert lab.sockets() == []


def _socket_names(lab: Script) -> list[str]:
    """Return the name of the socket of commands that are like this process."""
    pid = lab.await_server()
    names = lab.sockets()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not lab.servers())
    return names


def test_many_commands_at_once_all_work(served: Script) -> None:
    begun = [served.begin("run", "--rm", "-i", "busybox", "cat") for _ in range(AT_ONCE)]
    for number, command in enumerate(begun):
        assert command.communicate(str(number).encode(), timeout=TIMEOUT_S)[0] == str(number).encode()
    assert {command.returncode for command in begun} == {0}
    wait_until(lambda: not served.workers())


@pytest.mark.parametrize("locale", [{}, {"LANG": "C"}, {"LC_ALL": "C"}, {"LANG": "xx_XX.UTF-8"}, {"LANG": "C.UTF-8"}])
def test_a_worker_has_the_locale_of_a_process_of_its_own(served: Script, locale: dict[str, str]) -> None:
    kept = {name: value for name, value in environment().items() if name != "LANG" and not name.startswith("LC_")}
    names = ("-e", "LANG", "-e", "LC_ALL", "-e", "LC_CTYPE")
    argv = ("run", "--rm", *names, "busybox", "sh", "-c", "env | grep ^L | sort")
    ours = served(*argv, env={**kept, **locale})
    assert ours.stdout == served(*argv, env={**kept, **locale, SWITCH: "off"}).stdout
    assert [name for name in ("LANG", "LC_ALL") if f"{name}=" in ours.stdout] == [*locale]


def test_words_that_are_no_text_come_through(served: Script) -> None:
    word = os.fsdecode(b"\xff\xfe")
    for more in ({}, {SWITCH: "off"}):
        done = served("run", "--rm", "busybox", "echo", word, env=environment(**more), text=False)
        assert (done.stdout, done.stderr) == (b"\xff\xfe\n", b"")


def test_commands_beyond_the_servers_descriptors_are_carried_out_all_the_same(lab: Script) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70))  # room for three commands

    lab("ps", preexec_fn=limit)
    wait_until(lab.sockets)
    begun = [lab.begin("events", preexec_fn=limit) for _ in range(5)]
    wait_until(lambda: len(lab.workers()) == 3)
    for command in begun:
        command.terminate()
        command.communicate(timeout=TIMEOUT_S)
    assert {command.returncode for command in begun} == {-signal.SIGTERM}
