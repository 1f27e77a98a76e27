"""Guests for tests: a running one that tests share, and a way to make others."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.linux.cgroup import layout as cgroups
from lab.paths import Paths
from lab.target.backends.domain import DomainTarget
from lab.target.protocol import Closing
from lab.target.registry import open_backend
from lab.target.spec import Command, Limits, MarkName, NetworkMode, Options, TargetSpec

READY = Command(
    argv=("/bin/busybox", "sh", "-c", "trap 'exit 0' TERM; echo ready; /bin/busybox sleep 1000000 & wait $!")
)


@dataclass(slots=True)
class Started:
    """A target and the marks that it gave."""

    target: DomainTarget
    marks: dict[MarkName, int] = field(default_factory=dict)


MakeTarget = Callable[..., Started]


@pytest.fixture(scope="session")
def image(paths: Paths) -> str:
    store = ImageStore.open(paths)
    return bootstrap(store, BaseImage.BUSYBOX, progress=lambda _: None).image.manifest_digest


@contextmanager
def provisioned(
    paths: Paths, image: str, arm: str = "vm-tcg", options: Options | None = None, **changes: object
) -> Iterator[Started]:
    marks: dict[MarkName, int] = {}
    name = f"lab-guest-test-{os.getpid()}-{time.monotonic_ns() % 10**6}"
    spec = TargetSpec(
        name=name,
        image=image,
        cgroup_parent=f"{name}-parent",
        **({"command": READY} | changes),  # type: ignore[arg-type]  # fields of TargetSpec
    )
    backend = open_backend(arm, paths, options)
    target = backend.provision(spec, lambda name, at_ns: marks.update({name: at_ns or time.monotonic_ns()}))
    assert isinstance(target, DomainTarget)
    try:
        yield Started(target=target, marks=marks)
    finally:
        target.destroy()
        if isinstance(backend, Closing):
            backend.close()
        cgroups.remove(cgroups.detect(), f"{name}-parent", deadline_ns=time.monotonic_ns() + 10**10)


@pytest.fixture(scope="module")
def running(paths: Paths, image: str) -> Iterator[Started]:
    """A started microvm with a network and a scratch disk."""
    limits = Limits(vcpus=1, memory_bytes=192 * 1024 * 1024)
    scratch = 32 * 1024 * 1024
    with provisioned(paths, image, limits=limits, network=NetworkMode.BRIDGE, scratch_bytes=scratch) as started:
        started.target.start()
        yield started


@pytest.fixture
def make(paths: Paths, image: str) -> Iterator[MakeTarget]:
    """Return a function that provisions one more target; it is destroyed with the test."""
    with ExitStack() as stack:
        yield lambda **changes: stack.enter_context(provisioned(paths, image, **changes))
