"""Where nothing happens for a while, the shared spawner is a program of a few pages, and nobody notices."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lab.container import slumber

from ..containers.conftest import Lab, wait_until

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("nftables")]

MOST_BYTES = 1 << 20
RESTS_WITHIN_S = 60
SERVER = "trap 'exit 0' TERM; while :; do echo answer | nc -l -p 80; done"
WRITER = "read go < /go; echo late; echo wrong >&2; exit 7"


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().rstrip()


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private"))


def _bind(port: int) -> int:
    """Have a port of the host for a moment, 0 for a free one; return its number."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        return int(other.getsockname()[1])


def test_a_spawner_that_only_waits_takes_next_to_no_memory_and_wakes_up_for_everything(
    lab: Lab, tmp_path: Path
) -> None:
    port = _bind(0)
    lab.ok(
        "run",
        "-d",
        "--name",
        "server",
        "--network",
        "bridge",
        "-p",
        f"127.0.0.1:{port}:80",
        "busybox",
        "sh",
        "-c",
        SERVER,
    )
    fifo = tmp_path / "go"
    lab.ok("run", "--rm", "-v", f"{tmp_path}:/made", "--network", "none", "busybox", "mkfifo", "/made/go")
    lab.ok("run", "-d", "--name", "writer", "--network", "none", "-v", f"{fifo}:/go", "busybox", "sh", "-c", WRITER)
    (spawner,) = lab.spawners()

    def rests() -> bool:
        return _comm(spawner) == slumber.PROGRAM_LINK

    wait_until(rests, within_s=RESTS_WITHIN_S)
    assert lab.spawners() == [spawner]
    assert _private_bytes(spawner) < MOST_BYTES
    with pytest.raises(OSError, match="in use"):
        _bind(port)

    assert lab.ok("exec", "server", "echo", "woken") == "woken"
    assert not rests()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        assert client.makefile().read() == "answer\n"

    wait_until(rests, within_s=RESTS_WITHIN_S)
    with open(fifo, "w", encoding="ascii") as go:
        go.write("on\n")
    assert lab.ok("wait", "writer") == "7"
    assert lab("logs", "writer").out == "late\n"
    assert lab("logs", "writer").err == "wrong\n"
    assert lab.spawners() == [spawner]
    lab.ok("rm", "-f", "server", "writer")
    _bind(port)
