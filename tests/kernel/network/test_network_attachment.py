"""One namespace on the bridge by raw rtnetlink: its links, its address, its way out, and its end."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from lab.container.network import ipam, namespace
from lab.container.network.model import Attachment, Bridge
from lab.errors import KernelError
from lab.linux import command
from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]


def inside(path: str, *argv: str) -> str:
    done = command.run(("nsenter", f"--net={path}", "--", *argv), timeout_s=20)
    assert done.exit_code == 0, done
    return done.text


def test_a_namespace_gets_one_link_with_its_address_and_a_way_out(bridge: Bridge, attach) -> None:
    path, place = attach("a")
    link = inside(path, "ip", "-o", "link", "show", "eth0")
    assert place.mac in link
    assert ",UP" in link
    assert f"inet {place.address}/{place.prefix_length} brd " in inside(
        path, "ip", "-o", "-4", "address", "show", "eth0"
    )
    assert f"default via {bridge.gateway} dev eth0" in inside(path, "ip", "route")
    assert "UP" in inside(path, "ip", "-o", "link", "show", "lo")
    master = os.path.basename(os.readlink(f"/sys/class/net/{place.host_link}/master"))
    assert master == bridge.name


def test_namespaces_on_a_bridge_reach_the_host_and_each_other(bridge: Bridge, attach) -> None:
    (first, one), (second, other) = attach("a"), attach("b")
    for path, address in ((first, bridge.gateway), (first, other.address), (second, one.address)):
        inside(path, "busybox", "ping", "-c", "1", "-W", "5", address)


def test_the_link_goes_with_the_namespace(attach) -> None:
    path, place = attach("a")
    assert os.path.exists(f"/sys/class/net/{place.host_link}")
    namespace.remove(path)
    await_reaped(place.host_link)
    namespace.remove(path)


def await_reaped(link: str) -> None:
    deadline = time.monotonic() + 10
    while os.path.exists(f"/sys/class/net/{link}"):
        assert time.monotonic() < deadline, "the kernel has not reaped the link"
        time.sleep(0.01)


def test_a_second_link_of_the_same_name_is_an_error_that_names_it(attach) -> None:
    path, place = attach("a")
    with pytest.raises(KernelError, match=place.host_link):
        namespace.connect(path, place)


def test_a_bridge_that_is_not_there_is_an_error_that_names_it(root: Paths) -> None:
    path = os.path.join(root.run, "netns", "a")
    namespace.create(path)
    nowhere = Attachment(
        bridge="lab-nowhere", host_link="labnowhere-2", address="10.213.255.2", prefix_length=24,
        gateway="10.213.255.1", mac="02:42:0a:d5:ff:02",
    )  # fmt: skip
    try:
        with pytest.raises(KernelError, match="lab-nowhere"):
            namespace.connect(path, nowhere)
        assert not os.path.exists("/sys/class/net/labnowhere-2")
    finally:
        namespace.remove(path)


def test_a_namespace_that_exists_is_not_made_twice(root: Paths) -> None:
    path = os.path.join(root.run, "netns", "a")
    namespace.create(path)
    try:
        with pytest.raises(FileExistsError):
            namespace.create(path)
        assert "lo" in inside(path, "ip", "-o", "link")
    finally:
        namespace.remove(path)
    assert os.listdir(os.path.dirname(path)) == []


RAISE_LOOPBACK = """
from lab.container import init_calls, interpreter
interpreter.Interpreter(lambda: None).carry_out(init_calls.raise_loopback())
"""


def test_a_target_without_a_network_has_its_loopback(root: Paths) -> None:
    path = os.path.join(root.run, "netns", "a")
    namespace.create(path)
    try:
        inside(path, sys.executable, "-c", RAISE_LOOPBACK)
        inside(path, "busybox", "ping", "-c", "1", "-W", "5", "127.0.0.1")
        assert inside(path, "ip", "-o", "link").count("\n") == 0
    finally:
        namespace.remove(path)


def test_an_address_stays_taken_as_long_as_its_link_is_there_though_its_program_was_killed(
    root: Paths, bridge: Bridge
) -> None:
    path = os.path.join(root.run, "netns", "survivor")
    namespace.create(path)
    try:
        killed = command.run((sys.executable, "-c", CONNECT_AND_DIE, root.root, path))
        assert killed.exit_code == -signal.SIGKILL, killed.error_text
        (lease,) = ipam.leased(root.networks, bridge.name)
        assert (lease.owner, lease.address) == ("killed", killed.text)
    finally:
        namespace.remove(path)
    await_reaped(lease.host_link)
    assert ipam.leased(root.networks, bridge.name) == ()


CONNECT_AND_DIE = """
import os, signal, sys
from lab.container.network import apply, ipam, namespace
from lab.paths import Paths
paths = Paths.under(sys.argv[1])
attachment = ipam.lease(paths.networks, apply.ensure_bridge(paths), "killed")
namespace.connect(sys.argv[2], attachment)
print(attachment.address, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
