"""Features are found by trying them, in a child, and the caller stays as it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.linux import features
from lab.linux.features import Feature
from lab.paths import Paths
from lab.target import doctor

pytestmark = pytest.mark.root


@pytest.mark.parametrize("feature", list(Feature))
def test_trying_changes_nothing_for_this_process(feature: Feature, tmp_path: Path) -> None:
    before = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    features.attempt(feature, str(tmp_path))
    after = {name: os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")}
    assert after == before


def test_what_the_kernel_refuses_comes_back_as_its_errno(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        features.attempt(Feature.MOUNT_API, str(tmp_path / "missing"))


@pytest.mark.parametrize("name", ["cgroup-cpu", "cgroup-memory", "cgroup-pids", "nftables", "overlay"])
def test_a_check_works_twice_and_leaves_nothing(name: str, fresh_paths: Paths) -> None:
    for _ in range(2):
        finding = doctor.examine(doctor.find_check(name), fresh_paths)
        assert finding.availability.available, finding.availability.reason
