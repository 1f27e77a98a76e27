"""Which commands a server may carry out, and by what it is found: decided before anything is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lab.cli import command_client, command_server
from lab.linux import command

HEAVY = ("argparse", "re", "typing", "dataclasses", "pathlib", "enum", "collections", "signal", "socket", "lab.errors")


@pytest.fixture(autouse=True)
def _usual_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_client, "_has_usual_streams", lambda: True)  # which the test runner has taken


def _root(*argv: str, **environ: str) -> str | None:
    paths = command_client._fitting(argv, environ)
    return None if paths is None else paths.root


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("ps", "-a"), ("", "ps", ["-a"])),
        (("--root", "/r", "run", "x"), ("/r", "run", ["x"])),
        (("--root=/r", "image", "ls"), ("/r", "image", ["ls"])),
        (("--root",), ("", "", ())),
        (("--root=", "ps"), ("", "", ())),
        (("--log-level", "debug", "ps"), ("", "", ())),
        (("--rootless", "ps", "x"), ("", "", ())),
        ((), ("", "", ())),
    ],
)
def test_root_and_noun_are_read_as_the_parser_reads_them(argv: tuple[str, ...], expected: tuple[object, ...]) -> None:
    root, noun, rest = command_client.head(argv)
    assert (root, noun, rest) == expected


def test_a_command_on_containers_may_be_served_at_its_root() -> None:
    assert _root("--root", "/r", "run", "--rm", "busybox") == "/r"
    assert _root("ps", LAB_ROOT="/other") == "/other"


@pytest.mark.parametrize(
    "argv",
    [
        ("bench", "run", "quick"),
        ("doctor",),
        ("--version",),
        ("build", "-f", "/dev/fd/63", "."),
        ("run", "--cidfile", "/proc/self/fd/5", "x"),
        ("build", "https://example.org/x.git"),
        ("builder", "build", "git@example.org:x"),
    ],
)
def test_what_a_worker_cannot_do_as_well_is_carried_out_here(argv: tuple[str, ...]) -> None:
    assert _root(*argv, LAB_ROOT="/r") is None


@pytest.mark.parametrize("name", ["PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_variables_that_shape_a_process_at_its_start_are_carried_out_here(name: str) -> None:
    assert _root("ps", **{name: "x"}) is None
    assert _root("ps", LAB_ROOT="/r", PYTHONUNBUFFERED="1") == "/r"


def test_it_can_be_switched_off() -> None:
    assert _root("ps", LAB_ROOT="/r", LAB_COMMAND_SERVER="off") is None


def test_the_same_likeness_has_the_same_socket_and_another_has_another() -> None:
    identity = command_client.likeness()
    assert command_client.likeness() == identity
    assert command_client.socket_name(identity) == command_client.socket_name(bytes(identity))
    assert command_client.socket_name(identity) != command_client.socket_name(identity + b"x")


def test_the_client_imports_next_to_nothing() -> None:
    script = "import sys; from lab.cli import command_client; print(*sys.modules)"
    root = str(Path(command_client.__file__).parents[2])
    loaded = command.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {root!r}); {script}"]
    ).text.split()
    assert "lab.cli.command_client" in loaded
    assert [name for name in HEAVY if name in loaded] == []


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
