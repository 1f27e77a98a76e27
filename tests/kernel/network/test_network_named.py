"""Networks that users make: who is on them, what they are called there, and what is left when they are gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

from lab.container.network import dns
from lab.container.network.networks import Networks
from lab.linux import command

from ..containers.conftest import Lab, wait_until

KILLS = int(os.environ.get("LAB_TEST_KILLS", "3"))
"""How many commands of a kind are killed, each at another moment; 8 where time is not short."""

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

SLEEP = ("busybox", "sleep", "1000")
Make = Callable[..., str]


@pytest.fixture
def make(lab: Lab) -> Iterator[Make]:
    """Return a function that makes a network; all are removed afterwards, with whoever is on them."""

    def network(name: str, *flags: str) -> str:
        return lab.ok("network", "create", *flags, name)

    yield network
    for reference in lab.ids():
        lab.ok("rm", "-f", reference)
    for each in Networks(lab.paths).made():
        lab.ok("network", "rm", each.name)
    assert not dns.servers(lab.paths)


def put(lab: Lab, name: str, *flags: str) -> None:
    lab.ok("run", "-d", "--name", name, *flags, *SLEEP)


def inside(lab: Lab, name: str, *argv: str) -> str:
    return lab.ok("exec", name, *argv)


def resolves(lab: Lab, name: str, asked: str) -> bool:
    """Return whether a container reaches another one by that name."""
    return lab("exec", name, "ping", "-c", "1", "-W", "2", asked).code == 0


def test_a_network_is_a_bridge_of_its_own_and_leaves_nothing(lab: Lab, make: Make) -> None:
    whole = make("shop", "--subnet", "10.77.1.0/24", "--gateway", "10.77.1.9", "--label", "a=b")
    (link,) = (each.bridge.name for each in Networks(lab.paths).made() if each.bridge is not None)
    assert len(whole) == 64
    assert os.path.exists(f"/sys/class/net/{link}")
    assert "10.77.1.9/24" in command.run(("ip", "-o", "address", "show", link)).text
    lab.ok("network", "rm", "shop")
    assert not os.path.exists(f"/sys/class/net/{link}")
    assert "shop" not in lab.ok("network", "ls")


def test_a_container_has_the_addresses_that_are_asked_for(lab: Lab, make: Make) -> None:
    make("shop", "--subnet", "10.77.1.0/24", "--ip-range", "10.77.1.128/25", "--subnet", "fd77:1::/64")
    put(
        lab,
        "fixed",
        "--network",
        "shop",
        "--ip",
        "10.77.1.7",
        "--ip6",
        "fd77:1::77",
        "--mac-address",
        "02:00:00:00:00:07",
    )
    put(lab, "any", "--network", "shop")
    shown = inside(lab, "fixed", "ip", "address", "show", "eth0")
    assert all(text in shown for text in ("10.77.1.7/24", "fd77:1::77/64", "02:00:00:00:00:07"))
    endpoint = json.loads(lab.ok("inspect", "-f", "{{json .NetworkSettings.Networks.shop}}", "any"))
    assert int(endpoint["IPAddress"].rpartition(".")[2]) >= 128
    taken = lab("run", "--rm", "--network", "shop", "--ip", "10.77.1.7", *SLEEP)
    assert taken.code == 125
    assert "Address already in use" in taken.err
    outside = lab("run", "--rm", "--network", "shop", "--ip", "10.78.1.7", *SLEEP)
    assert "does not belong to any of this network's subnets" in outside.err
    lab.ok("restart", "-t", "0", "fixed", "any")
    again = json.loads(lab.ok("inspect", "-f", "{{json .NetworkSettings.Networks.shop}}", "any"))
    assert again["IPAddress"] == endpoint["IPAddress"]
    assert "10.77.1.7/24" in inside(lab, "fixed", "ip", "address", "show", "eth0")


def test_names_aliases_and_short_ids_are_resolved_both_ways(lab: Lab, make: Make) -> None:
    make("shop", "--ipv6")
    put(lab, "database", "--network", "shop", "--network-alias", "store")
    put(lab, "backend", "--network", "shop")
    short = lab.ok("inspect", "-f", "{{.Id}}", "database")[:12]
    for name in ("database", "store", short, "database.shop"):
        assert resolves(lab, "backend", name)
    assert resolves(lab, "database", "backend")
    address = lab.ok("inspect", "-f", "{{.NetworkSettings.Networks.shop.IPAddress}}", "database")
    assert "database.shop" in inside(lab, "backend", "nslookup", address)


def test_a_name_is_there_and_gone_within_a_tenth_of_a_second(lab: Lab, make: Make) -> None:
    make("shop")
    put(lab, "backend", "--network", "shop")
    network = Networks(lab.paths).find("shop")
    assert network.bridge is not None
    put(lab, "database", "--network", "shop")
    began = time.monotonic()
    wait_until(lambda: count(network.bridge.gateway, "database") == 1)
    assert time.monotonic() - began < 0.1
    lab.ok("rm", "-f", "database")
    began = time.monotonic()
    wait_until(lambda: count(network.bridge.gateway, "database") == 0)
    assert time.monotonic() - began < 0.1


def answer(server: str, name: str) -> bytes:
    import socket

    question = bytes((len(name),)) + name.encode() + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(5)
        asking.sendto(b"\0\7\1\0\0\1\0\0\0\0\0\0" + question, (server, 53))
        return asking.recv(1000)


def count(server: str, name: str) -> int:
    return int.from_bytes(answer(server, name)[6:8], "big")


def test_networks_are_isolated_and_their_names_their_own(lab: Lab, make: Make) -> None:
    make("shop")
    make("office")
    put(lab, "database", "--network", "shop")
    put(lab, "clerk", "--network", "office")
    address = lab.ok("inspect", "-f", "{{.NetworkSettings.Networks.shop.IPAddress}}", "database")
    assert not resolves(lab, "clerk", "database")
    assert not resolves(lab, "clerk", address)
    lab.ok("network", "connect", "--alias", "boss", "shop", "clerk")
    assert resolves(lab, "clerk", "database")
    assert resolves(lab, "database", "boss")
    lab.ok("network", "disconnect", "shop", "clerk")
    assert not resolves(lab, "clerk", "database")
    assert not resolves(lab, "database", "boss")


def test_a_container_on_several_networks_resolves_the_names_of_all_and_has_one_way_out(lab: Lab, make: Make) -> None:
    make("inner", "--internal")
    make("outer")
    put(lab, "database", "--network", "inner")
    put(lab, "proxy", "--network", "outer")
    put(lab, "backend", "--network", "inner", "--network", "outer")
    assert resolves(lab, "backend", "database")
    assert resolves(lab, "backend", "proxy")
    assert inside(lab, "backend", "ip", "route").count("default") == 1
    assert "default" not in inside(lab, "database", "ip", "route")
    lab.ok("network", "disconnect", "outer", "backend")
    assert "default" not in inside(lab, "backend", "ip", "route")
    lab.ok("network", "connect", "outer", "backend")
    assert inside(lab, "backend", "ip", "route").count("default") == 1


def test_without_talk_between_containers_they_reach_the_host_alone(lab: Lab, make: Make) -> None:
    make("quiet", "-o", "com.docker.network.bridge.enable_icc=false", "-o", "com.docker.network.driver.mtu=1400")
    put(lab, "one", "--network", "quiet")
    put(lab, "other", "--network", "quiet")
    address = lab.ok("inspect", "-f", "{{.NetworkSettings.Networks.quiet.IPAddress}}", "other")
    assert not resolves(lab, "one", address)
    assert resolves(lab, "one", "host.docker.internal")
    assert "mtu 1400" in inside(lab, "one", "ip", "link", "show", "eth0")


def test_a_bridge_can_have_a_name_and_a_subnet_belongs_to_one(lab: Lab, make: Make) -> None:
    make("named", "-o", "com.docker.network.bridge.name=labtestbr", "--subnet", "10.77.2.0/24")
    assert os.path.exists("/sys/class/net/labtestbr")
    clash = lab("network", "create", "--subnet", "10.77.2.128/25", "another")
    assert clash.code == 1
    assert "Pool overlaps with other one on this address space" in clash.err
    assert command.run(("ip", "link", "add", "labtest-x", "type", "bridge")).exit_code == 0
    try:
        for words in (("address", "add", "10.77.3.1/24", "dev", "labtest-x"), ("link", "set", "labtest-x", "up")):
            assert command.run(("ip", *words)).exit_code == 0
        clash = lab("network", "create", "--subnet", "10.77.3.0/24", "another")
        assert "overlaps the route to 10.77.3.0/24 of this host" in clash.err
    finally:
        command.run(("ip", "link", "del", "labtest-x"))
    assert "another" not in lab.ok("network", "ls")


def test_a_network_that_is_in_use_is_not_removed_and_one_that_is_gone_is_missed(lab: Lab, make: Make) -> None:
    make("shop")
    put(lab, "database", "--network", "shop")
    refused = lab("network", "rm", "shop")
    assert refused.code == 1
    assert "has active endpoints" in refused.err
    lab.ok("stop", "-t", "0", "database")
    lab.ok("network", "rm", "shop")
    gone = lab("start", "database")
    assert gone.code == 1
    assert "network shop not found" in gone.err
    lab.ok("rm", "database")


def test_name_servers_that_were_killed_are_back_by_the_spawner_or_without_it_by_a_check(lab: Lab, make: Make) -> None:
    make("shop")
    make("office")
    put(lab, "database", "--network", "office")
    put(lab, "backend", "--network", "shop", "--network", "office")  # which has a name server of its own
    known = {name: dns.pid(lab.paths, name) for name in dns.servers(lab.paths)}
    assert len(known) == 3
    for pid in known.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: all(dns.pid(lab.paths, name) not in (0, pid) for name, pid in known.items()))
    assert resolves(lab, "backend", "database")
    lab.end_spawners()
    for name in known:
        os.kill(dns.pid(lab.paths, name), signal.SIGKILL)
    wait_until(lambda: not any(dns.pid(lab.paths, name) for name in known))
    said = lab.ok("system", "check")
    assert all(
        f"name server of network {name}: it has been killed; started again" in said for name in ("shop", "office")
    )
    assert all(dns.pid(lab.paths, name) for name in known)
    assert resolves(lab, "backend", "database")


def test_a_name_server_that_a_connection_brought_is_looked_after_at_once(lab: Lab, make: Make) -> None:
    make("shop")
    put(lab, "backend", "--network", "bridge")
    assert not dns.servers(lab.paths)
    lab.ok("network", "connect", "shop", "backend")
    (name,) = dns.servers(lab.paths)
    first = dns.pid(lab.paths, name)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: dns.pid(lab.paths, name) not in (0, first))
    assert resolves(lab, "backend", "backend")


@pytest.mark.parametrize("way", ["start", "check"])
def test_a_bridge_that_was_removed_is_back_with_who_was_on_it(lab: Lab, make: Make, way: str) -> None:
    make("shop")
    network = Networks(lab.paths).find("shop")
    assert network.bridge is not None
    put(lab, "database", "--network", "shop")
    put(lab, "backend", "--network", "shop")
    assert command.run(("ip", "link", "del", network.bridge.name)).exit_code == 0
    assert not resolves(lab, "backend", "database")
    if way == "check":
        assert "network shop: its bridge or its rules are gone; made again" in lab.ok("system", "check")
    else:
        put(lab, "late", "--network", "shop")
        assert resolves(lab, "late", "database")
    assert resolves(lab, "backend", "database")


def test_a_network_whose_subnet_the_host_uses_by_now_is_not_brought_up(lab: Lab, make: Make) -> None:
    make("shop", "--subnet", "10.77.4.0/24")
    network = Networks(lab.paths).find("shop")
    assert network.bridge is not None
    for words in (
        ("link", "del", network.bridge.name),
        ("link", "add", "labtest-x", "type", "bridge"),
        ("address", "add", "10.77.4.9/24", "dev", "labtest-x"),
        ("link", "set", "labtest-x", "up"),
    ):
        assert command.run(("ip", *words)).exit_code == 0, words
    try:
        refused = lab("run", "--rm", "--network", "shop", "busybox", "true")
    finally:
        command.run(("ip", "link", "del", "labtest-x"))
    assert refused.code == 125
    assert "subnet 10.77.4.0/24 overlaps the route to 10.77.4.0/24 of this host" in refused.err
    lab.ok("run", "--rm", "--network", "shop", "busybox", "true")


def test_name_servers_of_the_users_choice_answer_what_the_network_does_not_know(lab: Lab, make: Make) -> None:
    make("shop")
    put(lab, "database", "--network", "shop")
    put(lab, "backend", "--network", "shop", "--dns", "192.0.2.53")
    assert resolves(lab, "backend", "database")
    text = " ".join(dns.servers(lab.paths))
    assert f"{Networks(lab.paths).find('shop').id}-" in text


@pytest.mark.parametrize("words", [("network", "create"), ("network", "rm"), ("network", "connect"), ("run",)])
def test_commands_that_are_killed_at_any_moment_leave_what_the_next_ones_can_use(
    lab: Lab, make: Make, words: tuple[str, ...]
) -> None:
    make("base")
    put(lab, "fixed", "--network", "base")
    for step in range(KILLS):
        name = f"net{step}"
        if words[-1] in ("rm", "connect"):
            make(name)
        tail = {
            "create": (name,),
            "rm": (name,),
            "connect": (name, "fixed"),
            "run": ("-d", "--name", name, "--network", "base", "-p", "8080", *SLEEP),
        }[words[-1]]
        process = subprocess.Popen(lab.argv(*words, *tail), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(0.15 + 0.32 / KILLS * step)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    lab.ok("system", "check")
    for step in range(KILLS):
        lab("network", "disconnect", f"net{step}", "fixed")
        lab("rm", "-f", f"net{step}")
        lab("network", "rm", "-f", f"net{step}")
    make("last")
    put(lab, "newcomer", "--network", "last", "--network", "base")
    assert resolves(lab, "newcomer", "fixed")


def test_a_container_of_the_roots_own_bridge_joins_a_network_and_leaves_that_bridge(lab: Lab, make: Make) -> None:
    make("shop")
    put(lab, "database", "--network", "shop")
    put(lab, "backend", "--network", "bridge")
    lab.ok("network", "connect", "shop", "backend")
    assert resolves(lab, "backend", "database")
    assert resolves(lab, "database", "backend")
    lab.ok("network", "disconnect", "bridge", "backend")
    assert lab.ok("ps", "--filter", "name=backend", "--format", "{{.Networks}}") == "shop"
    assert inside(lab, "backend", "ip", "route").count("default") == 1
    lab.ok("restart", "-t", "0", "backend")
    assert resolves(lab, "database", "backend")
