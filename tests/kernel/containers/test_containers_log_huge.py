"""A log of a gibibyte: written whole, read from its end at once and from its beginning in bounded memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import time

import pytest

from .conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

SIZE_BYTES = int(os.environ.get("LAB_TEST_LOG_BYTES", str(1 << 30)))
LINE = "x" * 1023
LINES = SIZE_BYTES // 1024
TAIL_S_MOST = 5
"""For the last lines, which takes a start of Python; reading all of it takes many times as long."""
MEMORY_BYTES_MOST = 256 << 20


def test_a_huge_log_is_whole_and_its_end_is_there_at_once(lab: Lab) -> None:
    free_bytes = shutil.disk_usage(lab.paths.root).free
    if free_bytes < 3 * SIZE_BYTES:
        pytest.skip(f"only {free_bytes >> 20} MiB are free")
    script = f"yes {LINE} | head -n {LINES}; echo last"
    lab.ok("run", "-d", "--name", "writer", "busybox", "sh", "-c", script)
    assert lab("wait", "writer", timeout_s=500).out == "0\n"
    began = time.monotonic()
    assert lab.ok("logs", "--tail", "2", "writer") == f"{LINE}\nlast"
    assert time.monotonic() - began < TAIL_S_MOST
    counted = subprocess.run(
        ["sh", "-c", f'ulimit -v {MEMORY_BYTES_MOST >> 10}; "$@" | wc -lc', "sh", *lab.argv("logs", "writer")],
        capture_output=True,
        check=True,
        timeout=500,
    )
    assert counted.stdout.split() == [str(LINES + 1).encode(), str(LINES * 1024 + len("last\n")).encode()]
    lab.ok("rm", "writer")
