"""Whoever is killed while a volume is made, filled or removed: the next one sees it whole, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from lab.container.volumes.store import VolumeStore

from ..containers.conftest import Lab, remove_containers

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]

SEED = 20260113
KILLS = int(os.environ.get("LAB_TEST_KILLS", "12"))
FILES = 400
_DOCKERFILE = f"FROM busybox\nRUN mkdir /d && for i in $(seq {FILES}); do echo $i > /d/$i; done && chmod 700 /d\n"


def test_a_copy_that_was_killed_is_never_taken_for_a_whole_one(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(_DOCKERFILE)
    lab.ok("build", "-q", "--network", "none", "-t", "many", str(tmp_path))
    chance, store = random.Random(SEED), VolumeStore(lab.paths)
    for _ in range(KILLS):
        started = lab.begin("create", "-v", "data:/d", "many")
        with contextlib.suppress(subprocess.TimeoutExpired):
            started.wait(timeout=chance.uniform(0.1, 0.9))
        started.send_signal(signal.SIGKILL)
        started.communicate()
        lab.ok("run", "--rm", "-v", "data:/d", "many", "true")
        data = store.data("data")
        assert len(os.listdir(data)) == FILES
        assert os.stat(data).st_mode & 0o777 == 0o700
        assert sorted(os.listdir(store.path("data"))) == ["_data", "volume.json"]
        remove_containers(lab)
        removal = lab.begin("volume", "rm", "data")
        with contextlib.suppress(subprocess.TimeoutExpired):
            removal.wait(timeout=chance.uniform(0.1, 0.5))
        removal.send_signal(signal.SIGKILL)
        removal.communicate()
        lab.ok("volume", "rm", "-f", "data")
    lab.ok("volume", "prune", "-f")
    assert [name for name in os.listdir(lab.paths.volumes) if name != ".lock"] == []
