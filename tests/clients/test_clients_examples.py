"""The pages of the examples are true for docker as well, with the same files and the same commands.

The daemon has a network namespace of its own, with docker's usual bridge in it, so that ports can be published and no
rule of this host is touched.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel.examples.conftest import base_archive
from kernel.examples.walkthrough import CLAIMS, DOCS, NAMES, bases_of, follow, walk

from lab.paths import Paths
from lab.target.backends.dockerd import PrivateDaemon

__all__ = ["base_archive"]
pytestmark = [pytest.mark.root, pytest.mark.needs("docker"), pytest.mark.needs("mmdebstrap")]
_OF_THE_CLASSIC_BUILDER = r"DEPRECATED: .*|            BuildKit is .*|            environment-variable\.|"
_WITHOUT_NETWORK = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")


class _NetworkedDaemon(PrivateDaemon):
    """A daemon with networks, in a network namespace that is not this host's."""

    def __init__(self, paths: Paths, within: tuple[str, ...]) -> None:
        super().__init__(paths)
        self._within = within

    def _argv(self) -> tuple[str, ...]:
        setpriv = super()._argv()
        place = setpriv.index("dockerd")
        return tuple(
            word for word in (*setpriv[:place], *self._within, *setpriv[place:]) if word not in _WITHOUT_NETWORK
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """How docker is called, and how a program gets to where its ports are published."""

    engine: tuple[str, ...]
    within: tuple[str, ...]


@pytest.fixture(scope="module")
def network() -> Iterator[tuple[str, ...]]:
    """Return the words that run a program in a network namespace with nothing but a loopback."""
    argv = ["unshare", "--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        yield ("nsenter", f"--net=/proc/{holder.pid}/ns/net")


@pytest.fixture(scope="module")
def docker(network: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    daemon = _NetworkedDaemon(Paths.under(str(tmp_path_factory.mktemp("docker"))), network)
    daemon.start()
    engine = ("docker", "-H", f"unix://{daemon.socket}")
    try:
        yield Docker(engine=engine, within=network)
    finally:
        daemon.stop()


@pytest.mark.parametrize("name", NAMES)
def test_an_example_does_with_docker_what_its_page_says(
    name: str, docker: Docker, base_archive: Callable[[str], str], tmp_path: Path
) -> None:
    for base in bases_of(name):
        subprocess.run([*docker.engine, "load", "-q", "-i", base_archive(base)], check=True, capture_output=True)
    wrong = walk(name, docker.engine, tmp_path, within=docker.within, unsaid=_OF_THE_CLASSIC_BUILDER)
    listed = _remove_containers(docker)
    assert not wrong, "\n\n".join(wrong)
    assert listed == []


def test_claims_about_data_hold_for_docker_as_well(
    docker: Docker, base_archive: Callable[[str], str], tmp_path: Path
) -> None:
    subprocess.run([*docker.engine, "load", "-q", "-i", base_archive("busybox")], check=True, capture_output=True)
    work = tmp_path / "work"
    work.mkdir()
    unsaid = _OF_THE_CLASSIC_BUILDER
    wrong = follow(DOCS / CLAIMS, docker.engine, work, within=docker.within, unsaid=unsaid)
    listed = _remove_containers(docker)
    assert not wrong, "\n\n".join(wrong)
    assert listed == []


def _remove_containers(docker: Docker) -> list[str]:
    """Remove what a page that is wrong has left, and return it."""
    listed = subprocess.run([*docker.engine, "ps", "-aq"], check=True, capture_output=True, text=True).stdout.split()
    for container in listed:
        subprocess.run([*docker.engine, "rm", "-f", "-v", container], check=True, capture_output=True)
    return listed
