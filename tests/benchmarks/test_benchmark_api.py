"""`docker run --rm`, by docker's own client: on `lab serve` and on a dockerd, in the same run."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator

import pytest
from kernel.api.conftest import Server
from processes import wait_until
from pytest_benchmark.fixture import BenchmarkFixture

from lab.container.image.bootstrap import BaseImage, bootstrap
from lab.container.image.store import ImageStore
from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

ROUNDS = 10
LEAST = 2.5
"""Docker's time over ours; wide, since shared machines are noisy. Usual is 4 to 6."""

pytestmark = [pytest.mark.root, pytest.mark.needs("root"), pytest.mark.needs("overlay"), pytest.mark.needs("docker")]


@pytest.fixture(scope="module")
def addresses() -> Iterator[tuple[str, str]]:
    """Return where docker and the lab's server are, with an image each."""
    with tempfile.TemporaryDirectory(prefix="lab-test-") as root:
        paths = Paths.under(root)
        store = ImageStore.open(paths)
        bootstrap(store, BaseImage.BUSYBOX, progress=lambda _: None)
        daemon, server = PrivateDaemon(paths), Server(paths, tempfile.mkdtemp(dir=root))
        daemon.start()
        try:
            archive = os.path.join(root, "busybox.tar")
            store.export_docker_archive("busybox", "busybox:latest", archive)
            subprocess.run(("docker", "-H", f"unix://{daemon.socket}", "load", "-q", "-i", archive), check=True)
            yield f"unix://{daemon.socket}", f"unix://{server.socket}"
            assert server.errors() == ""
        finally:
            server.end()
            daemon.stop()
            for pid in server.supervisors():
                os.kill(pid, 9)
            wait_until(lambda: not server.supervisors())


def _took_s(address: str) -> float:
    argv = ("docker", "-H", address, "run", "--rm", "--network", "none", "busybox", "true")
    began = time.monotonic()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def test_a_run_through_the_api_against_dockers(benchmark: BenchmarkFixture, addresses: tuple[str, str]) -> None:
    docker, lab = addresses

    def ratio() -> float:
        pairs = [(_took_s(docker), _took_s(lab)) for _ in range(ROUNDS + 1)]
        return statistics.median(theirs / ours for theirs, ours in pairs[1:])  # the first one warms both up

    found = benchmark.pedantic(ratio, rounds=1)
    benchmark.extra_info["docker's time over ours"] = found
    assert found >= LEAST
