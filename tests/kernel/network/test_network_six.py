"""Ports and networks over IPv6."""

from __future__ import annotations

import socket

import pytest

from ..containers.conftest import Lab
from .test_network_named import Make, make
from .test_network_ports import SERVE, fetch, free_port

__all__ = ["make"]

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]


def test_a_port_leads_to_a_container_with_ipv6_from_the_host_and_from_itself(lab: Lab, make: Make) -> None:
    make("six", "--subnet", "fd77:6::/64", "--subnet", "10.77.6.0/24")
    port = free_port()
    lab.ok("run", "-d", "--name", "web", "--network", "six", "-p", f"{port}:80", *SERVE)
    assert fetch("127.0.0.1", port) == fetch("fd77:6::1", port) == "hello"
    assert lab.ok("exec", "web", "wget", "-q", "-O", "-", f"http://[fd77:6::1]:{port}/") == "hello"
    assert f"[::]:{port}->80/tcp" in lab.ok("ps", "--format", "{{.Ports}}")


def test_a_client_that_asks_the_loopback_of_ipv6_is_refused_at_once(lab: Lab, make: Make) -> None:
    make("six", "--ipv6")
    port = free_port()
    lab.ok("run", "-d", "--name", "web", "--network", "six", "-p", f"{port}:80", *SERVE)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("::1", port), timeout=5)
    with socket.socket(socket.AF_INET6) as other, pytest.raises(OSError, match="in use"):
        other.bind(("::", port))
    refused = lab("run", "--rm", "--network", "six", "-p", f"[::1]:{port}:81", *SERVE)
    assert refused.code == 125
    assert "the kernel translates no address of IPv6's loopback" in refused.err
    assert len(lab.ids()) == 1
