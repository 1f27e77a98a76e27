"""Addresses of one bridge under many programs at once, some of which are killed."""

from __future__ import annotations

import signal
import sys

import pytest

from lab.container.network import ipam
from lab.container.network.model import Bridge
from lab.linux import command
from lab.paths import Paths

pytestmark = [pytest.mark.root, pytest.mark.needs("nftables")]

LEASES = """
bridge = apply.ensure_bridge(paths)
print(*(ipam.lease(paths.networks, bridge, f"owner-{number}").address for number in range(8)))
"""
GIVE_AND_TAKE = """
bridge = apply.ensure_bridge(paths)
for _ in range(40):
    attachment = ipam.lease(paths.networks, bridge, "owner")
    ipam.release(paths.networks, attachment)
print("done")
"""
KILLED = """
import os, signal, sys
from lab.container.network import apply, ipam
from lab.paths import Paths
paths = Paths.under(sys.argv[1])
attachment = ipam.lease(paths.networks, apply.ensure_bridge(paths), "killed")
print(attachment.address, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_programs_that_ask_at_once_never_share_an_address(root: Paths, bridge: Bridge, at_once) -> None:
    said = at_once(LEASES, [root] * 8)
    addresses = [address for line in said for address in line.split()]
    assert len(addresses) == 64
    assert len(set(addresses)) == 64
    assert bridge.gateway not in addresses
    assert {lease.address for lease in ipam.leased(root.networks, bridge.name)} == set(addresses)


def test_what_is_given_back_at_once_by_many_is_free_again(root: Paths, bridge: Bridge, at_once) -> None:
    assert at_once(GIVE_AND_TAKE, [root] * 4) == ["done"] * 4
    assert ipam.leased(root.networks, bridge.name) == ()


def test_the_address_of_a_killed_program_is_free_again(root: Paths, bridge: Bridge) -> None:
    killed = command.run((sys.executable, "-c", KILLED, root.root))
    assert killed.exit_code == -signal.SIGKILL
    assert ipam.leased(root.networks, bridge.name) == ()
    others = [ipam.lease(root.networks, bridge, f"o{number}") for number in range(253)]  # all that there are
    assert killed.text in [attachment.address for attachment in others]
    for attachment in others:
        ipam.release(root.networks, attachment)
