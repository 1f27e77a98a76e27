"""Who drops what our bridges forward, by what nftables lists of a table."""

from __future__ import annotations

from typing import Any

import pytest

from lab.container.network import legacy_tables
from lab.container.network.neighbours import Entries, Obstacle, dropping

BRIDGE = "lab-0a1b2c3d"
DROP, ACCEPT, COUNTER = {"drop": None}, {"accept": None}, {"counter": {"packets": 0, "bytes": 0}}


def chain(name: str = "forward", **base: str) -> dict[str, Any]:  # Any: what libnftables writes
    return {"chain": {"family": "inet", "table": "fence", "name": name, **base}}


def rule(*expressions: dict[str, Any], of: str = "forward") -> dict[str, Any]:
    return {"rule": {"family": "inet", "table": "fence", "chain": of, "expr": list(expressions)}}


def at(key: str, right: object) -> dict[str, Any]:
    return {"match": {"op": "==", "left": {"meta": {"key": key}}, "right": right}}


def found(*entries: dict[str, Any], bridge: str = BRIDGE) -> list[str]:
    listed: Entries = [{"metainfo": {}}, {"table": {"family": "inet", "name": "fence"}}, *entries]
    return [obstacle.chain for obstacle in dropping(listed, bridge)]


CLOSED = chain(hook="forward", policy="drop")
OPEN = chain(hook="forward", policy="accept")


def test_a_chain_that_drops_by_its_policy_or_its_last_rule_is_in_the_way() -> None:
    assert found(CLOSED) == ["forward"]
    assert found(OPEN, rule(COUNTER, {"reject": {"type": "icmpx"}})) == ["forward"]


def test_what_accepts_or_drops_something_else_is_not() -> None:
    assert found(OPEN) == []
    assert found(chain(hook="input", policy="drop")) == []
    assert found(OPEN, rule(at("oifname", "virbr0"), DROP)) == []  # libvirt's are of this kind
    assert found(OPEN, rule(DROP, of="other"), chain("other")) == []


@pytest.mark.parametrize("right", [BRIDGE, "lab-*", {"set": ["eth0", "lab-*"]}, "@trusted"])
def test_one_that_has_been_told_of_our_bridges_is_not_in_the_way(right: object) -> None:
    told = (rule(at("iifname", right), COUNTER, ACCEPT), rule(at("oifname", right), ACCEPT))
    assert found(CLOSED, *told) == []
    assert found(CLOSED, told[0]) == ["forward"]  # what is published would not be reached
    assert found(CLOSED, *told, bridge="mine") == ([] if right == "@trusted" else ["forward"])


def test_dockers_is_asked_rather_than_complained_of() -> None:
    assert found(CLOSED, chain("DOCKER-USER")) == []


def test_the_hint_is_in_the_words_of_whoever_made_the_chain() -> None:
    native = Obstacle(family="inet", table="fence", chain="forward", link="lab-*")
    assert native.hint.split(" && ")[0] == "nft insert rule inet fence forward iifname '\"lab-*\"' accept"
    old = Obstacle(family="ip6", table="filter", chain="FORWARD", link="lab-*")
    assert old.hint == "ip6tables -I FORWARD -i lab-+ -j ACCEPT && ip6tables -I FORWARD -o lab-+ -j ACCEPT"
    oldest = Obstacle(family="ip", table="filter", chain="FORWARD", link="mine", program="iptables-legacy")
    assert oldest.hint.startswith("iptables-legacy -I FORWARD -i mine -j ACCEPT && ")
    assert "(iptables-legacy)" in oldest.subject


@pytest.mark.parametrize(
    ("rules", "is_dropped"),
    [
        ("", False),
        ("-P FORWARD ACCEPT", False),
        ("-P FORWARD DROP", True),
        ("-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-port-unreachable", True),
        ("-P FORWARD ACCEPT\n-A FORWARD -i eth0 -j DROP", False),
        ("-P FORWARD DROP\n-A FORWARD -i lab-+ -j ACCEPT\n-A FORWARD -o lab-+ -j ACCEPT", False),
        ("-P FORWARD DROP\n-A FORWARD -i lab-+ -j ACCEPT", True),
        ("-P FORWARD DROP\n-A FORWARD ! -i lab-+ -j ACCEPT\n-A FORWARD ! -o lab-+ -j ACCEPT", True),
        ('-P FORWARD DROP\n-A FORWARD -m comment --comment "a b" -j ACCEPT', True),
    ],
)
def test_what_iptables_older_tables_drop_is_read_from_their_rules(rules: str, is_dropped: bool) -> None:
    assert legacy_tables.drops(rules, BRIDGE) is is_dropped
