"""The command server: what it has imported, and that it notices when that is out of date."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from lab.cli import command_server


def test_a_file_that_was_written_since_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "once.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    __import__("once")
    before = command_server._code_times()
    assert command_server._code_times() == before
    (tmp_path / "once.py").unlink()
    assert command_server._code_times() != before
    del sys.modules["once"]


def test_all_that_a_server_prepares_exists() -> None:
    command_server.prepare()
    assert set(command_server._PREPARED) <= set(sys.modules)


def test_client_and_server_are_of_one_protocol() -> None:
    source = Path(command_server.__file__).with_name("command_client.c").read_text()
    assert re.findall(r'#define PROTOCOL "(.*)"', source) == [command_server.PROTOCOL]
    words = {"READY": command_server.READY, "ENDED": command_server.ENDED, "DECLINED": command_server.DECLINED}
    for name, word in words.items():
        assert f"{name} = '{word.decode()}'" in source
