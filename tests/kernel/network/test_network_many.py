"""A hundred containers on one network, each of which finds the others by name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.container.containers import Containers
from lab.container.network.model import Endpoint
from lab.container.network.networks import Networks
from lab.container.options.run import RunOptions

from ..containers.conftest import Lab
from .test_network_named import Make, count, make, put

__all__ = ["make"]

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

MANY = 100


def test_a_hundred_containers_on_one_network_find_each_other_both_ways(lab: Lab, make: Make) -> None:
    make("crowd")
    put(lab, "first", "--network", "crowd")
    options = RunOptions(
        image="busybox", command=("sleep", "1000"), network="crowd", endpoints=(Endpoint(network="crowd"),)
    )
    with Containers(lab.paths) as containers:
        for number in range(1, MANY):
            made = containers.create(options, name=f"member{number}")
            containers.start(made.id).close()
        network = Networks(lab.paths).find("crowd")
        assert network.bridge is not None
        addresses = {each.state.attachments[0].address for each in containers.all()}
        assert len(addresses) == MANY
        assert all(count(network.bridge.gateway, f"member{number}") == 1 for number in range(1, MANY))

    def reaches(pair: tuple[str, str]) -> int:
        return lab("exec", pair[0], "ping", "-c", "1", "-W", "5", pair[1]).code

    pairs = [("first", "member99"), ("member99", "first"), ("member1", "member50"), ("member50", "member1")]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(reaches, pairs)) == [0] * len(pairs)
