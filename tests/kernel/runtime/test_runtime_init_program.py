"""--init: a process 1 that reaps, hands signals on, and ends as its program ends."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lab.container import init_program
from lab.errors import UnavailableError

if TYPE_CHECKING:
    from conftest import Containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

_DEADLINE_NS = 60_000_000_000


@pytest.fixture(scope="session")
def init(tmp_path_factory: pytest.TempPathFactory) -> str:
    return init_program.ensure(str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("code", [0, 7])
def test_it_ends_with_the_programs_exit_code(containers: Containers, init: str, code: int) -> None:
    assert containers.shell(f"exit {code}", init=init).code == code


def test_it_ends_as_a_program_that_a_signal_ended(containers: Containers, init: str) -> None:
    assert containers.shell("kill -9 $$", init=init).code == 128 + 9


@pytest.mark.parametrize(("program", "code"), [("/no/such", 127), ("/tmp", 126)])
def test_a_program_that_cannot_be_executed_is_said(containers: Containers, init: str, program: str, code: int) -> None:
    outcome = containers.run(program, init=init)
    assert outcome.code == code
    assert f"exec {program} failed" in outcome.err


def test_the_program_is_its_child_and_sees_it_as_process_1(containers: Containers, init: str) -> None:
    outcome = containers.shell("cat /proc/1/cmdline; echo; echo $PPID", init=init)
    command, parent = outcome.out.splitlines()
    assert command.split("\0")[:4] == ["/sbin/docker-init", "--", "/bin/sh", "-c"]
    assert parent == "1"


def test_orphans_are_reaped(containers: Containers, init: str) -> None:
    script = """
        i=0; while [ $i -lt 50 ]; do (sleep 0.01 &) ; i=$((i+1)); done
        while [ "$(cat /proc/[0-9]*/comm | /bin/busybox grep -c sleep)" != 0 ]
        do sleep 0.05; done 2>/dev/null
        cat /proc/[0-9]*/stat | /bin/busybox grep -c ' Z '
    """
    assert containers.shell(script, init=init).out == "0\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
def test_signals_are_handed_on(containers: Containers, init: str, number: signal.Signals) -> None:
    script = f"trap 'exit 42' {number.name[3:]}; touch /ready; while :; do sleep 0.05; done"
    container_id = containers.create("/bin/sh", "-c", script, init=init)
    running = containers.start(container_id)
    ready = Path(containers.engine.state(container_id).upper, "ready")
    deadline_ns = time.monotonic_ns() + _DEADLINE_NS
    while not ready.exists():
        assert time.monotonic_ns() < deadline_ns
        os.sched_yield()
    containers.engine.kill(container_id, number)
    assert running.wait(deadline_ns) == 42


def test_a_program_that_would_ignore_the_signal_as_process_1_ends_by_it(containers: Containers, init: str) -> None:
    container_id = containers.create("/bin/sleep", "1000000", init=init)
    running = containers.start(container_id)
    deadline_ns = time.monotonic_ns() + _DEADLINE_NS
    while len(containers.engine.runtime.processes(containers.engine.state(container_id))) < 2:
        assert time.monotonic_ns() < deadline_ns
        os.sched_yield()
    containers.engine.kill(container_id, signal.SIGTERM)
    assert running.wait(deadline_ns) == 128 + signal.SIGTERM


def test_a_program_is_static_or_it_is_not(init: str) -> None:
    assert init_program.is_static(init)
    assert init_program.is_static("/bin/busybox")
    assert not init_program.is_static("/bin/ls")
    assert not init_program.is_static("/etc/passwd")


def test_without_a_compiler_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(init_program, "_OTHERS", ())
    with pytest.raises(UnavailableError, match="no program of --init: no C compiler"):
        init_program.ensure(str(tmp_path))
    assert os.listdir(tmp_path / "compiled") == []
