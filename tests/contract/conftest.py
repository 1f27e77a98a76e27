"""Every registered backend, and targets of it."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator

import leftovers
import pytest
from contract.places import LIMITS, PARENT, READY, Provision

from lab.container.image.store import ImageStore
from lab.linux import procfs
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.protocol import Backend, Closing, Target
from lab.target.registry import NAMES, open_backend
from lab.target.spec import MarkName, NetworkMode, TargetSpec


@pytest.fixture(scope="session", params=[pytest.param(name, marks=pytest.mark.needs(name)) for name in NAMES])
def backend(request: pytest.FixtureRequest, paths: Paths, parent: None, image: str) -> Iterator[Backend]:
    """Open the backend, and at the end close it: what it keeps between targets may outlive a test, but not it."""
    before = leftovers.everything()
    opened = open_backend(request.param, paths)
    # what serves all targets (docker's daemon, our spawner, the bridge) comes up with the first one
    warm_up = TargetSpec(
        name=f"lab-ct-{uuid.uuid4().hex[:8]}",
        image=image,
        command=READY,
        cgroup_parent=PARENT,
        network=NetworkMode.BRIDGE,
    )
    opened.provision(warm_up, lambda _name, _at_ns: None).destroy()
    yield opened
    if isinstance(opened, Closing):
        opened.close()
        opened.close()
    assert not leftovers.wait_until_gone(before, leftovers.everything)


# a processor of software takes a hundred times as long to boot a guest: that it boots is what is asked here
PATIENCE = {"start_timeout_ns": 300 * 10**9} if procfs.processor_is_emulated(procfs.cpuinfo()) else {}


@pytest.fixture(scope="session")
def parent() -> Iterator[None]:
    """Make the cgroup that the harness would name."""
    layout = cgroups.detect()
    cgroups.create(layout, PARENT, (*cgroups.TARGET_CONTROLLERS, "cpuset"))
    for hierarchy in layout.hierarchies:  # named ones as well, which foreign runtimes use
        os.makedirs(hierarchy.directory(PARENT), exist_ok=True)
    yield
    cgroups.remove(layout, PARENT, deadline_ns=time.monotonic_ns() + 10**10)


@pytest.fixture(scope="session")
def image(paths: Paths) -> str:
    return ImageStore.open(paths).resolve("busybox").manifest_digest


@pytest.fixture
def marks() -> list[tuple[MarkName, int]]:
    return []


@pytest.fixture
def provision(backend: Backend, image: str, marks: list[tuple[MarkName, int]]) -> Iterator[Provision]:
    made: list[Target] = []

    def sink(name: MarkName, at_ns: int | None) -> None:
        marks.append((name, time.monotonic_ns() if at_ns is None else at_ns))

    def provide(**changes: object) -> Target:
        fields: dict[str, object] = {"image": image, "command": READY, "limits": LIMITS, "cgroup_parent": PARENT}
        fields |= PATIENCE
        name = f"lab-ct-{uuid.uuid4().hex[:8]}"
        target = backend.provision(TargetSpec(name=name, **(fields | changes)), sink)  # type: ignore[arg-type]
        made.append(target)
        return target

    yield provide
    for target in made:
        target.destroy()


@pytest.fixture
def started(provision: Provision) -> Target:
    target = provision()
    target.start()
    return target
