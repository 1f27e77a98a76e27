"""testcontainers for Python, unmodified, on `lab serve`: it starts a database, waits for it, and uses it.

Its reaper is an image of a registry that need not be reachable, so it is switched off: the block's end removes what
the block has started.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from kernel.api.conftest import Server
from kernel.examples.conftest import base_archive

__all__ = ["base_archive"]
pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("root"),
    pytest.mark.needs("overlay"),
    pytest.mark.needs("docker"),
    pytest.mark.needs("mmdebstrap"),
]

_PROGRAM = """
import socket
from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs

database = DockerContainer("redis").with_command("redis-server --bind 0.0.0.0 --protected-mode no")
with database.with_exposed_ports(6379).with_env("A", "1").with_name("tested") as started:
    wait_for_logs(started, "Ready to accept connections", timeout=30)
    address = started.get_container_host_ip(), int(started.get_exposed_port(6379))
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"SET key value\\r\\nGET key\\r\\n")
        answer = b""
        while answer.count(b"\\r\\n") < 3:
            answer += client.recv(100)
    code, output = started.exec("redis-cli get key")
    print(*answer.decode().split(), code, output.decode().strip(), sep="|")
"""


def test_a_database_is_started_waited_for_used_and_removed(
    served: Server, base_archive: Callable[[str], str], tmp_path: Path
) -> None:
    served.ok("load", "-q", "-i", base_archive("redis"))
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM],
            cwd=tmp_path,
            env={**os.environ, **served.environment, "TESTCONTAINERS_RYUK_DISABLED": "true"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.stdout == "+OK|$5|value|0|value\n", done
        assert served.ok("ps", "-aq") == ""
    finally:
        subprocess.run(["docker", "rm", "-fv", "tested"], env=served.environment, capture_output=True)
        served.ok("rmi", "redis")
