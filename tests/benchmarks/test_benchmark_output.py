"""What a container writes, on its way through its supervisor to whoever is attached: how fast, and in what memory."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container import supervision
from lab.container.log_file import LIMITS_FILE
from lab.container.loop import Loop

TOTAL_BYTES = 1 << 30
CHUNK = (b"x" * 127 + b"\n") * 512
SLOWEST_BYTES_PER_S = 10 << 20
"""Wide, since shared machines are noisy; usual is ten times as much."""
GROWTH_BYTES_MOST = 8 << 20


@pytest.mark.parametrize("limits", ["0 0", "10485760 2"], ids=["without a log", "with a short log"])
def test_a_gibibyte_goes_through_in_constant_memory(benchmark: BenchmarkFixture, tmp_path: Path, limits: str) -> None:
    (tmp_path / LIMITS_FILE).write_text(limits)
    for name in supervision.PIPES:
        os.mkfifo(tmp_path / name)
    writer = os.open(tmp_path / "stdout", os.O_RDWR | os.O_NONBLOCK)
    loop, policy = Loop(), ("no", 0, 0, False)
    supervised = supervision.Supervised(loop, str(tmp_path), policy, supervision.Peek(), has_terminal=False)
    attached, theirs = os.pipe()
    supervised.listen("stdout", theirs)
    before_bytes = _private_bytes()
    rate_bytes_per_s: float = benchmark.pedantic(_pump, (loop, writer, attached), rounds=1)
    grown_bytes = _private_bytes() - before_bytes
    benchmark.extra_info.update(rate_mb_per_s=rate_bytes_per_s / 1e6, grown_bytes=grown_bytes)
    supervised.ended(0, lambda: None)
    os.close(writer)
    os.close(attached)
    assert rate_bytes_per_s > SLOWEST_BYTES_PER_S
    assert grown_bytes < GROWTH_BYTES_MOST


def _pump(loop: Loop, writer: int, reader: int) -> float:
    """Write and read at both ends, as a container and its client would, and return the bytes a second."""
    began = time.monotonic()
    written = seen = 0
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    while seen < TOTAL_BYTES:
        if written < TOTAL_BYTES:
            with contextlib.suppress(BlockingIOError):  # it is full: the loop empties it
                written += os.write(writer, CHUNK[: TOTAL_BYTES - written])
        if seen < written:
            loop.step()
        while poll.poll(0):
            seen += len(os.read(reader, 1 << 20))
    return TOTAL_BYTES / (time.monotonic() - began)


def _private_bytes() -> int:
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_"))
