"""What runs while the lab is updated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lab.container import wire

if TYPE_CHECKING:
    from conftest import Lab

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay")]


def test_a_spawner_of_another_version_is_replaced_and_what_it_looked_after_goes_on(lab: Lab) -> None:
    ticking = "i=0; while sleep 0.1; do i=$((i+1)); echo $i; done"
    lab.ok("run", "-d", "--name", "ticking", "busybox", "sh", "-c", ticking)
    (before,) = lab.spawners()
    path = os.path.join(lab.paths.run, wire.IDENTITY_NAME)
    with open(path, encoding="ascii") as file:
        version, pid = file.read().split()
    assert int(pid) == before
    with open(path, "w", encoding="ascii") as file:
        file.write(f"{version}-older {pid}")
    assert lab.ok("run", "--rm", "busybox", "echo", "hello") == "hello"
    (after,) = lab.spawners()
    assert after != before
    assert lab.get("ticking").status == "running"
    lab.ok("stop", "-t", "0", "ticking")
    assert lab.get("ticking").exit_code == 137
    lines = lab.log("ticking").split()
    assert lines == [str(number).encode() for number in range(1, len(lines) + 1)]
    lab.ok("rm", "ticking")
