"""Name servers that end of themselves are told of once, those that were told to end are not."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.container.loop import Loop
from lab.container.network.dns_watch import DIRECTORY, SUFFIX, NameServers


@pytest.fixture
def server() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(("sleep", "1000"))
    yield process
    process.kill()
    process.wait()


def watched(tmp_path: Path, pid: int) -> tuple[Loop, NameServers, list[str], Path]:
    file = tmp_path / DIRECTORY / f"net{SUFFIX}"
    file.parent.mkdir()
    file.write_text(f"{pid}\n")
    loop, lost = Loop(), []
    servers = NameServers(loop, str(tmp_path), lambda: lost.append("lost"))
    servers.look()
    return loop, servers, lost, file


def test_one_that_is_killed_is_told_of_once(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    loop, servers, lost, _ = watched(tmp_path, server.pid)
    servers.look()
    server.kill()
    loop.step()
    server.wait()
    servers.look()
    assert lost == ["lost"]


def test_one_that_was_told_to_end_or_has_a_successor_is_not(tmp_path: Path, server: subprocess.Popen[bytes]) -> None:
    loop, _, lost, file = watched(tmp_path, server.pid)
    file.unlink()
    server.kill()
    loop.step()
    assert lost == []


def test_one_that_was_dead_before_is_told_of_once_and_what_is_no_number_left_out(tmp_path: Path) -> None:
    done = subprocess.Popen(("true",))
    done.wait()
    _, servers, lost, file = watched(tmp_path, done.pid)
    servers.look()
    assert lost == ["lost"]
    file.write_text("")
    servers.look()
    assert lost == ["lost"]


def test_without_networks_there_is_nothing_to_look_at(tmp_path: Path) -> None:
    NameServers(Loop(), str(tmp_path), lambda: pytest.fail("nobody is lost")).look()
