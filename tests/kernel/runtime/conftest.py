"""An engine on an empty root, and a busybox layer, for the tests of this room."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from lab.container import resources
from lab.container.defaults import ContainerConfig
from lab.container.engine import Engine
from lab.container.output import communicate
from lab.container.spawner_client import Running, Stdio
from lab.container.spec.runtime import Process
from lab.linux.cgroup import layout
from lab.paths import Paths

CGROUP_PARENT = f"lab-test-{os.getpid()}"
DEADLINE_NS = 60_000_000_000


@pytest.fixture(scope="session")
def busybox_layer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a layer of a static busybox with its applets, and a file for everybody."""
    layer = tmp_path_factory.mktemp("layer")
    (layer / "bin").mkdir()
    shutil.copy("/bin/busybox", layer / "bin" / "busybox")
    for applet in (
        "sh",
        "cat",
        "id",
        "ls",
        "sleep",
        "hostname",
        "mknod",
        "mount",
        "unshare",
        "touch",
        "head",
        "dd",
        "ps",
    ):
        (layer / "bin" / applet).symlink_to("busybox")
    (layer / "tmp").mkdir(mode=0o777)
    return str(layer)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a command in a container left."""

    code: int
    out: str
    err: str


class Containers:
    """Containers made short: a command in, its outcome out."""

    def __init__(self, engine: Engine, layer: str) -> None:
        self.engine = engine
        self.config = ContainerConfig(
            id="",
            args=(),
            layers=(layer,),
            cgroup_parent=CGROUP_PARENT,
            resources=resources.limits(vcpus=1, memory_bytes=64 * 1024 * 1024, pids=64),
        )
        self._numbers = itertools.count(1)

    def create(self, *args: str, **changes: object) -> str:
        container_id = str(changes.pop("id", f"test-{os.getpid()}-{next(self._numbers)}"))
        self.engine.create(replace(self.config, id=container_id, args=args, **changes))  # type: ignore[arg-type]
        return container_id

    def run(self, *args: str, **changes: object) -> Outcome:
        """Create, start, wait, delete."""
        container_id = self.create(*args, **changes)
        try:
            return self.finish(container_id)
        finally:
            self.engine.delete(container_id, force=True)

    def finish(self, container_id: str) -> Outcome:
        """Start a container and wait for its end."""
        return self._finish(lambda stdio: self.engine.start(container_id, stdio=stdio))

    def shell(self, script: str, **changes: object) -> Outcome:
        return self.run("/bin/sh", "-c", script, **changes)

    def exec(self, container_id: str, *args: str, process: Process | None = None) -> Outcome:
        wanted = process or self.engine.process(container_id, args)
        return self._finish(lambda stdio: self.engine.exec(container_id, wanted, stdio=stdio))

    def start_sleeping(self, **changes: object) -> tuple[str, Running]:
        """Start a container that sleeps, with nothing on its standard streams."""
        container_id = self.create("/bin/sleep", "1000000", **changes)
        return container_id, self.start(container_id)

    def start(self, container_id: str) -> Running:
        null = os.open(os.devnull, os.O_RDWR)
        try:
            return self.engine.start(container_id, stdio=Stdio(stdin=null, stdout=null, stderr=null))
        finally:
            os.close(null)

    def _finish(self, launch: Callable[[Stdio], Running]) -> Outcome:
        (stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        try:
            running = launch(Stdio(stdin=stdin, stdout=stdout, stderr=stderr))
        except BaseException:
            for descriptor in (our_stdin, our_stdout, our_stderr):
                os.close(descriptor)
            raise
        finally:
            for descriptor in (stdin, stdout, stderr):
                os.close(descriptor)
        deadline_ns = time.monotonic_ns() + DEADLINE_NS
        code, out, err = communicate(
            running, stdin=our_stdin, stdout=our_stdout, stderr=our_stderr, data=b"", deadline_ns=deadline_ns
        )
        return Outcome(code=code, out=out.decode(), err=err.decode())


@pytest.fixture
def engine(fresh_paths: Paths) -> Iterator[Engine]:
    with Engine(fresh_paths) as opened:
        yield opened
        for state in opened.list():
            opened.delete(state.id, force=True)
    found = layout.detect()
    layout.remove(found, CGROUP_PARENT, deadline_ns=time.monotonic_ns() + DEADLINE_NS)


@pytest.fixture
def containers(engine: Engine, busybox_layer: str) -> Containers:
    return Containers(engine, busybox_layer)
