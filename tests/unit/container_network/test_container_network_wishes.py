"""What users ask of networks and ports: read, checked and designed, without touching the host."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.container import port_bindings
from lab.container.network import endpoints, firewall
from lab.container.network.model import Attachment, Bridge, Endpoint
from lab.container.network.publish import overlaps
from lab.container.network.request import Request, check, design
from lab.container.options.endpoints import asked
from lab.container.port_bindings import ContainerPort, HostPort
from lab.errors import SpecError, StateConflict

ID = "0123456789abcdef" * 4
PLACE = Attachment(
    bridge="lab-a", host_link="l", address="10.1.0.2", prefix_length=24, gateway="10.1.0.1", mac="02:42:0a:01:00:02"
)


def test_what_is_left_to_us_is_chosen_where_nobody_else_is() -> None:
    first = design(Request(name="a", ipv6=True), ID, created_ns=1, taken=(), routes=("0.0.0.0/0",)).bridge
    assert first is not None
    second = design(Request(name="b"), ID, created_ns=1, taken=(first.subnet,), routes=("0.0.0.0/0",)).bridge
    assert second is not None
    assert not ipaddress.ip_network(first.subnet).overlaps(ipaddress.ip_network(second.subnet))
    assert ipaddress.ip_network(first.subnet6).is_private
    assert first.name == "lab-01234567"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "bridge"}, "predefined"),
        ({"name": "a b"}, "invalid name"),
        ({"subnets": ("10.1.0.0/31",)}, "no room"),
        ({"subnets": ("10.1.0.0/24", "10.2.0.0/24")}, "one IPv4 subnet only"),
        ({"gateways": ("10.1.0.1",)}, "no matching subnet for gateway"),
        ({"subnets": ("10.1.0.0/24",), "ip_ranges": ("10.2.0.0/25",)}, "no matching subnet for range"),
    ],
)
def test_what_cannot_be_a_network_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        check(replace(Request(name="shop"), **changes))  # type: ignore[arg-type] # by name


def test_a_subnet_belongs_to_one() -> None:
    request = Request(name="shop", subnets=("10.1.0.0/24",))
    with pytest.raises(StateConflict, match="Pool overlaps"):
        design(request, ID, created_ns=1, taken=("10.1.0.0/16",), routes=())
    with pytest.raises(StateConflict, match="overlaps the route"):
        design(request, ID, created_ns=1, taken=(), routes=("10.0.0.0/8",))


def test_a_networks_flag_may_say_all_that_is_asked_for_there() -> None:
    found = asked(["name=a,alias=x,alias=y,ip=10.1.0.2", "b"], aliases=["z"], mac="02-00-00-00-00-01")
    assert found[0] == Endpoint(network="a", aliases=("x", "y", "z"), address="10.1.0.2", mac="02:00:00:00:00:01")
    assert found[1] == Endpoint(network="b")
    with pytest.raises(SpecError, match="multiple times"):
        asked(["a", "a"])


def test_the_way_out_is_through_the_first_open_network_by_name() -> None:
    def on(name: str, gateway: str) -> Endpoint:
        return Endpoint(network=name, attachment=replace(PLACE, gateway=gateway))

    found = endpoints.with_one_way_out((on("c", "1.1.1.1"), on("a", ""), on("b", "2.2.2.2")))
    assert [each.attachment.gateway for each in found if each.attachment is not None] == ["", "", "2.2.2.2"]


@given(st.integers(1, 65000), st.integers(0, 30), st.sampled_from(("", "127.0.0.1", "[::1]")))
def test_ranges_of_one_length_go_together_in_order(first: int, more: int, address: str) -> None:
    text = f"{address}:{first}-{first + more}:{80}-{80 + more}" if address else f"{first}-{first + more}:80-{80 + more}"
    found = port_bindings.published((text,))
    assert [hosts[0].number - port.number for port, hosts in found.items()] == [first - 80] * (more + 1)
    assert all(
        port_bindings.published((port_bindings.with_host(port, hosts[0]),)) == {port: hosts}
        for port, hosts in found.items()
    )


def test_publications_clash_where_one_address_is_any() -> None:
    port = ContainerPort(number=80)
    here, any_, other = (HostPort(address=address, number=80) for address in ("127.0.0.1", "0.0.0.0", "127.0.0.2"))
    assert overlaps((port, here), (port, any_))
    assert not overlaps((port, here), (port, other))
    assert not overlaps((port, any_), (port, HostPort(address="::", number=80)))


def test_rules_of_an_internal_network_let_nothing_out() -> None:
    bridge = Bridge(name="lab-a", subnet="10.1.0.0/24", gateway="10.1.0.1")
    assert "translated4" in firewall.admit("t", bridge)
    assert "closed" in firewall.admit("t", replace(bridge, internal=True))
    assert "translated4" not in firewall.admit("t", replace(bridge, internal=True))
    published = ((ContainerPort(number=80), HostPort(address="0.0.0.0", number=8080)),)
    assert firewall.publish("t", published, ("10.1.0.2",)) == (
        "create element inet t any4 { tcp . 8080 : 10.1.0.2 . 80 }\n"
    )
