"""What a harness that was killed has left is gone once somebody opens the same arm on the same root again."""

from __future__ import annotations

import os
import signal
import sys
import uuid
from collections.abc import Iterator

import pytest
from contract.places import LIMITS, PARENT, READY, eventually

from lab.container.storage import snapshots
from lab.linux import command
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.protocol import Backend, Closing
from lab.target.registry import open_backend
from lab.target.spec import TargetSpec

pytestmark = pytest.mark.root

_OWNER = """
import os, signal, sys
from lab.paths import Paths
from lab.target.registry import open_backend
from lab.target.spec import Command, TargetSpec

arm, name, image, parent, started, *argv = sys.argv[1:]
spec = TargetSpec(name=name, image=image, command=Command(argv=tuple(argv)), cgroup_parent=parent)
target = open_backend(arm, Paths.default()).provision(spec, lambda _name, _at_ns: None)
if started == "started":
    target.start()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def again(backend: Backend, paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    """Open the arm a second time; a daemon of the lab's own serves both."""
    socket = os.path.join(paths.run, "dockerd", "docker.sock")
    if os.path.exists(socket):
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
    opened = open_backend(backend.name, paths)
    yield opened
    if isinstance(opened, Closing):
        opened.close()


@pytest.mark.parametrize("state", ["provisioned", "started"])
def test_what_a_killed_owner_left_is_removed_by_the_next(again: Backend, image: str, paths: Paths, state: str) -> None:
    name = f"lab-ct-{uuid.uuid4().hex[:8]}"
    argv = (sys.executable, "-c", _OWNER, again.name, name, image, PARENT, state, *READY.argv)
    done = command.run(argv, timeout_s=120)
    assert done.exit_code == -signal.SIGKILL, done.error_text
    assert name in _left(paths)

    spec = TargetSpec(name=f"{name}-2", image=image, command=READY, limits=LIMITS, cgroup_parent=PARENT)
    again.provision(spec, lambda _name, _at_ns: None).destroy()

    assert eventually(lambda: name not in _left(paths)), _left(paths)


def _left(paths: Paths) -> str:
    """Return all places where a target may have left something, as one text."""
    found = [*snapshots.mount_points_below(paths.root), *snapshots.mount_points_below(paths.run)]
    for top in (paths.containers, paths.processes, paths.guests, paths.run, os.path.join(paths.root, "targets")):
        for directory, names, files in os.walk(top):
            if "rootfs" in names:
                names.remove("rootfs")
            found += [os.path.join(directory, entry) for entry in (*names, *files)]
    layout = cgroups.detect()
    for hierarchy in layout.hierarchies:
        parent = hierarchy.directory(PARENT)
        found += [os.path.join(parent, entry) for entry in (os.listdir(parent) if os.path.isdir(parent) else ())]
    podman = os.path.join(paths.root, "podman", "overlay-containers", "containers.json")
    if os.path.exists(podman):
        with open(podman, encoding="utf-8") as file:
            found.append(file.read())
    return "\n".join(found)
