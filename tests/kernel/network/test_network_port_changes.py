"""Ports that are published, and no longer, while a container runs: what docker's users have asked for since 2016."""

from __future__ import annotations

import socket

import pytest

from ..containers.conftest import Lab, wait_until
from .test_network_ports import SERVE, fetch, free_port, rules

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]


def web(lab: Lab, *flags: str) -> str:
    return lab.ok("run", "-d", "--name", "web", "--network", "bridge", *flags, *SERVE)


def test_a_port_comes_and_goes_while_its_container_runs(lab: Lab) -> None:
    port, other = free_port(), free_port()
    web(lab, "-p", f"{other}:80")
    pid = lab.get("web").state.pid
    assert lab.ok("port", "add", "web", f"{port}:80") == f"80/tcp -> 0.0.0.0:{port}"
    assert fetch("127.0.0.1", port) == fetch("127.0.0.1", other) == "hello"
    lab.ok("port", "rm", "web", f"{port}:80")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=2)
    socket.create_server(("127.0.0.1", port)).close()
    assert fetch("127.0.0.1", other) == "hello"
    assert lab.get("web").state.pid == pid


def test_what_was_published_later_is_published_again_by_a_restart(lab: Lab) -> None:
    port = free_port()
    web(lab)
    lab.ok("port", "add", "web", f"127.0.0.1:{port}:80")
    lab.ok("restart", "-t", "0", "web")
    assert fetch("127.0.0.1", port) == "hello"
    lab.ok("port", "rm", "web", "80")
    lab.ok("restart", "-t", "0", "web")
    assert lab.ok("port", "web") == ""
    assert f"{port}" not in rules(lab)


def test_a_port_that_is_taken_is_not_added_and_one_that_is_not_there_not_removed(lab: Lab) -> None:
    web(lab)
    with socket.create_server(("0.0.0.0", 0)) as taken:
        refused = lab("port", "add", "web", f"{taken.getsockname()[1]}:80")
    assert refused.code == 1
    assert "address already in use" in refused.err
    missing = lab("port", "rm", "web", "81")
    assert missing.code == 1
    assert "No public port '81/tcp' published for web" in missing.err
    assert lab.ok("port", "web") == ""


def test_of_a_range_one_port_can_be_taken_away(lab: Lab) -> None:
    first = free_port()
    web(lab, "-p", f"{first}-{first + 2}:80-82")
    lab.ok("port", "rm", "web", "81")
    assert lab.ok("port", "web").splitlines() == [f"80/tcp -> 0.0.0.0:{first}", f"82/tcp -> 0.0.0.0:{first + 2}"]
    lab.ok("restart", "-t", "0", "web")
    assert len(lab.ok("port", "web").splitlines()) == 2


def test_ports_that_were_added_go_with_the_container(lab: Lab) -> None:
    port = free_port()
    web(lab)
    lab.ok("port", "add", "web", f"{port}:80")
    lab.ok("kill", "web")
    wait_until(lambda: f"{port}" not in rules(lab))
    socket.create_server(("127.0.0.1", port)).close()
