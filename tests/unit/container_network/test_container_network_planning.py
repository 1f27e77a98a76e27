"""Addresses, names and plans of the container network, without touching the host's."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.network import ipam, plan
from lab.container.network.ipam import HostView, Lease
from lab.container.network.model import Bridge
from lab.errors import ContainerError

BRIDGE = Bridge(name="lab-0a1b2c3d", subnet="10.213.7.0/24", gateway="10.213.7.1")
LEASE = Lease(address="10.213.7.2", owner="a", host_link="l", boot_id="b", pid=7, pid_started_ticks=70)


@given(st.sets(st.integers(2, 254), max_size=252), st.integers(0, 255))
def test_an_address_is_never_given_twice_and_never_the_gateways(taken: set[int], last: int) -> None:
    used = {f"10.213.7.{number}" for number in taken}
    address = ipam.next_address(BRIDGE, taken=used, last=f"10.213.7.{last}")
    assert address not in used | {BRIDGE.gateway}
    assert ipaddress.ip_address(address) in ipaddress.ip_network(BRIDGE.subnet)


def test_a_full_subnet_is_a_clear_error() -> None:
    with pytest.raises(ContainerError, match=r"10\.213\.7\.0/24"):
        ipam.next_address(BRIDGE, taken={f"10.213.7.{number}" for number in range(2, 255)}, last="")


def test_link_names_fit_the_kernel_and_differ_by_bridge() -> None:
    other = Bridge(name="lab-ffffffff", subnet=BRIDGE.subnet, gateway=BRIDGE.gateway)
    names = {ipam.host_link_name(bridge, "10.213.7.254") for bridge in (BRIDGE, other)}
    assert len(names) == 2
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize(
    ("boot_id", "links", "ticks", "stale"),
    [("b", ["l"], -1, False), ("b", [], 70, False), ("b", [], 71, True), ("b", [], -1, True), ("c", ["l"], 70, True)],
)
def test_a_lease_is_stale_when_link_and_taker_are_gone(boot_id: str, links: list[str], ticks: int, stale: bool) -> None:
    assert ipam.is_stale(LEASE, HostView(boot_id=boot_id, links=links, started_ticks={7: ticks})) is stale


def test_a_subnet_that_overlaps_a_route_is_not_chosen() -> None:
    first = plan.choose_bridge("lab-x", plan.Existing())
    second = plan.choose_bridge("lab-x", plan.Existing(routes=[first.subnet, "0.0.0.0/0"]))
    assert first.subnet != second.subnet


def test_a_bridge_that_is_there_needs_nothing() -> None:
    existing = plan.Existing(
        addresses={BRIDGE.name: ("10.213.7.1/24",)}, up={BRIDGE.name}, tables={BRIDGE.name}, forwarding=True
    )
    assert plan.bring_up(BRIDGE, existing) == ()
    assert plan.choose_bridge(BRIDGE.name, existing) == BRIDGE


def test_taking_down_nothing_is_nothing() -> None:
    assert plan.take_down(BRIDGE.name, plan.Existing(), stop_forwarding=True) == ()
