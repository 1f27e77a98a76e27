"""Whose page cache served a read, by what passed the places on its way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.bench.probes import io_path
from lab.bench.probes.io_path import Reading, Server
from lab.target.spec import Footprint

NOTHING = Reading(device_bytes=0, vmm_bytes={})
OF_A_GUEST = Reading(device_bytes=0, vmm_bytes={7: (10, 5000), 8: (0, 0)})


def of_a_guest(*, device: int, called: int = 0, devices: int = 0) -> Reading:
    """Return the reading after a guest's first process has read so much more."""
    return Reading(device_bytes=device, vmm_bytes={7: (10 + called, 5000 + devices), 8: (0, 0)})


@pytest.mark.parametrize(
    ("before", "after", "server"),
    [
        (NOTHING, NOTHING, Server.HOST_CACHE),
        (NOTHING, Reading(device_bytes=900, vmm_bytes={}), Server.DEVICE),
        (OF_A_GUEST, of_a_guest(device=0, called=100), Server.GUEST_CACHE),
        (OF_A_GUEST, of_a_guest(device=100, called=1000), Server.HOST_CACHE),
        (OF_A_GUEST, of_a_guest(device=1000, devices=1000), Server.DEVICE),
        # another process may have read from the device: what never left the guest was served there all the same
        (OF_A_GUEST, of_a_guest(device=5000), Server.GUEST_CACHE),
    ],
)
def test_what_has_not_passed_a_place_was_served_before_it(before: Reading, after: Reading, server: Server) -> None:
    assert io_path.served_by(before, after, 1000) is server
    assert {sample.labels["served_by"] for sample in io_path.samples(before, after, 1000, {})} == {str(server)}


def test_a_job_that_read_nothing_has_no_shares() -> None:
    assert io_path.samples(OF_A_GUEST, OF_A_GUEST, 0, {}) == ()


def test_a_guests_reading_counts_what_its_processes_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(1 << 20))
    footprint = Footprint(cgroups=(), pids=(os.getpid(),), guest_memory=True)
    before = io_path.read(footprint)
    file.read_bytes()
    after = io_path.read(footprint)
    assert after.vmm_bytes[os.getpid()][0] - before.vmm_bytes[os.getpid()][0] >= 1 << 20
    assert io_path.read(Footprint(cgroups=(), pids=(os.getpid(),))).vmm_bytes == {}
