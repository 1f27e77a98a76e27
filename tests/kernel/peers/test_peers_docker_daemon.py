"""Which daemon the arm "docker" uses: the one that DOCKER_HOST names, and no other in its place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.errors import UnavailableError
from lab.paths import Paths
from lab.target.backends.docker import DockerBackend, users_daemon
from lab.target.backends.dockerd import PrivateDaemon
from lab.target.spec import Command, TargetSpec

pytestmark = [pytest.mark.root, pytest.mark.needs("docker")]


@pytest.fixture
def daemon(fresh_paths: Paths) -> Iterator[PrivateDaemon]:
    """A daemon that stands for the user's."""
    started = PrivateDaemon(fresh_paths)
    started.start()
    yield started
    started.stop()


def test_the_daemon_that_is_named_is_used_and_none_is_started(
    daemon: PrivateDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{daemon.socket}")
    mine = Paths.under(str(tmp_path))
    answer = DockerBackend(mine).check()
    assert answer.available, answer
    assert dict(answer.facts)["daemon"] == "the host's"
    assert not (tmp_path / "run" / "dockerd").exists()


def test_a_key_that_interrupts_the_terminals_programs_does_not_reach_the_daemon(daemon: PrivateDaemon) -> None:
    assert daemon.pid is not None
    assert os.getsid(daemon.pid) == daemon.pid


def test_a_socket_that_answers_is_found_without_being_named(daemon: PrivateDaemon) -> None:
    assert users_daemon("", daemon.socket) == f"unix://{daemon.socket}"


@pytest.mark.parametrize(
    ("address", "words"),
    [("unix:///no/such.sock", "does not answer"), ("tcp://192.0.2.1:2375", "on this machine")],
)
def test_a_daemon_that_cannot_be_used_is_told_and_no_other_takes_its_place(
    address: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    backend = DockerBackend(Paths.under(str(tmp_path)))
    answer = backend.check()
    assert not answer.available
    assert address in answer.reason
    assert words in answer.reason
    assert "DOCKER_HOST" in answer.hint
    with pytest.raises(UnavailableError, match=words):
        backend.provision(TargetSpec(name="lab-x", image="", command=Command(argv=("x",))), lambda _name, _at: None)
    assert list(tmp_path.iterdir()) == []
