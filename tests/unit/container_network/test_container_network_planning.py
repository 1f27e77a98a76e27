"""Addresses, names and plans of the container network, without touching the host's."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container.network import ipam, plan
from lab.container.network.ipam import HostView, Lease
from lab.container.network.model import Bridge
from lab.errors import ContainerError

BRIDGE = Bridge(name="lab-0a1b2c3d", subnet="10.213.7.0/24", gateway="10.213.7.1")
LEASE = Lease(address="10.213.7.2", owner="a", host_link="l", boot_id="b", pid=7, pid_started_ticks=70)


@given(st.integers(1, 254))
def test_every_address_but_the_gateways_comes_once_and_the_last_given_comes_last(last: int) -> None:
    order = list(ipam.addresses_after(BRIDGE, f"10.213.7.{last}"))
    hosts = {str(host) for host in ipaddress.ip_network(BRIDGE.subnet).hosts()}
    assert len(order) == 253
    assert set(order) == hosts - {BRIDGE.gateway}
    assert last == 1 or order[-1] == f"10.213.7.{last}"


def test_an_address_is_never_leased_twice_and_a_full_subnet_is_a_clear_error(tmp_path: Path) -> None:
    small = Bridge(name="lab-small", subnet="10.213.7.0/29", gateway="10.213.7.1")
    given = [ipam.lease(str(tmp_path), small, f"t{number}") for number in range(5)]
    assert len({attachment.address for attachment in given}) == 5
    with pytest.raises(ContainerError, match=r"10\.213\.7\.0/29"):
        ipam.lease(str(tmp_path), small, "one too many")
    ipam.release(str(tmp_path), given[2])
    assert ipam.lease(str(tmp_path), small, "again") == given[2]
    assert [known.owner for known in ipam.leased(str(tmp_path), small.name)] == ["t0", "t1", "again", "t3", "t4"]


def test_link_names_fit_the_kernel_and_differ_by_bridge() -> None:
    other = Bridge(name="lab-ffffffff", subnet=BRIDGE.subnet, gateway=BRIDGE.gateway)
    names = {ipam.host_link_name(bridge, "10.213.7.254") for bridge in (BRIDGE, other)}
    assert len(names) == 2
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize(
    ("boot_id", "has_link", "ticks", "stale"),
    [
        ("b", True, -1, False),
        ("b", False, 70, False),
        ("b", False, 71, True),
        ("b", False, -1, True),
        ("c", True, 70, True),
    ],
)
def test_a_lease_is_stale_when_link_and_taker_are_gone(boot_id: str, has_link: bool, ticks: int, stale: bool) -> None:
    assert ipam.is_stale(LEASE, HostView(boot_id=boot_id, has_link=has_link, started_ticks=ticks)) is stale


def test_a_subnet_that_overlaps_a_route_is_not_chosen() -> None:
    first = plan.choose_bridge("lab-x", plan.Existing())
    second = plan.choose_bridge("lab-x", plan.Existing(routes=[first.subnet, "0.0.0.0/0"]))
    assert first.subnet != second.subnet


def test_a_bridge_that_is_there_needs_nothing() -> None:
    existing = plan.Existing(
        addresses={BRIDGE.name: ("10.213.7.1/24",)},
        up={BRIDGE.name},
        tables={plan.bridge_name("/r")},
        admitted={BRIDGE.name},
        forwarding=True,
        notes={BRIDGE.name: plan.note("/r")},
    )
    assert plan.bring_up("/r", BRIDGE, existing) == ()
    assert plan.choose_bridge(BRIDGE.name, existing) == BRIDGE


def test_taking_down_nothing_is_nothing() -> None:
    assert plan.take_down("lab-t", BRIDGE, plan.Existing(), is_last=True, stop_forwarding=True) == ()


def test_a_bridge_says_whose_it_is_as_far_as_the_kernel_has_room() -> None:
    (note,) = (op for op in plan.bring_up("/r", BRIDGE, plan.Existing()) if isinstance(op, plan.NoteRoot))
    assert note == plan.NoteRoot(link=BRIDGE.name, root="/r")
    long = "/" + "r" * 300
    assert plan.note(long) == ""
    assert not any(isinstance(op, plan.NoteRoot) for op in plan.bring_up(long, BRIDGE, plan.Existing()))


def test_only_bridges_that_say_so_belong_to_a_root() -> None:
    notes = {"lab-1": plan.note("/a"), "br0": "uplink", "veth1": plan.note("/b"), "br1": "lab root of mine"}
    assert plan.roots(plan.Existing(bridges={"lab-1", "br0", "br1"}, notes=notes)) == {"lab-1": "/a"}


def test_of_dead_roots_only_what_carries_nobody_is_removed_and_the_rules_with_the_last_bridge() -> None:
    dead = {"lab-1": "/a", "lab-2": "/a", "lab-3": "/b"}
    tables = {plan.bridge_name("/a"), plan.bridge_name("/b"), "somebody"}
    some = plan.clear_away(dead, plan.Existing(tables=tables, carrying={"lab-2"}))
    assert [plan.describe(op) for op in some] == [
        f"load rules of nftables table inet {plan.bridge_name('/b')}",
        "delete link lab-1",
        "delete link lab-3",
    ]
    all_of_it = plan.clear_away(dead, plan.Existing(tables=tables))
    assert {op.table for op in all_of_it if isinstance(op, plan.LoadRules)} == tables - {"somebody"}
    assert plan.clear_away({}, plan.Existing(tables=tables)) == ()
