"""Others who look after this host's network: docker drops all that is forwarded and not its own, so it has to be asked.

A packet that one table drops is dropped, whatever other tables accept. So where docker has its chain DOCKER-USER, which
it makes for the rules of others and keeps as they are, each of our bridges gets two rules there that accept; what may
enter and leave such a bridge is still decided by our own table. Nothing else of anybody else's is touched.

Source: docs.docker.com/engine/network/packet-filtering-firewalls, "Add iptables policies before Docker's rules".
"""

from __future__ import annotations

import json

from lab.container.network import presence
from lab.container.network.model import Bridge
from lab.linux import command, nftables

_CHAIN = "DOCKER-USER"
_PROGRAMS = {"iptables": "ip", "ip6tables": "ip6"}
_DIRECTIONS = ("-i", "-o")


def accommodate(bridge: Bridge) -> None:
    """Let docker's rules accept what a bridge of ours carries; without docker nothing happens."""
    for program, direction in _rules():
        if not _change(program, "-C", bridge, direction):
            _change(program, "-I", bridge, direction)


def forget(bridge: Bridge) -> None:
    """Take a bridge's rules out of docker's chain again; safe to repeat."""
    for program, direction in _rules():
        while _change(program, "-D", bridge, direction):
            continue


def _rules() -> list[tuple[str, str]]:
    present = [program for program, family in _PROGRAMS.items() if _has_chain(program, family)]
    return [(program, direction) for program in present for direction in _DIRECTIONS]


def _has_chain(program: str, family: str) -> bool:
    entries = json.loads(nftables.listing(f"list chains {family}"))["nftables"]
    if any(entry.get("chain", {}).get("name") == _CHAIN for entry in entries):
        return True
    if not presence.is_docker_here():
        return False
    try:  # docker with the older tables, which nftables does not show
        return command.run((program, "-w", "-n", "-L", _CHAIN)).exit_code == 0
    except FileNotFoundError:
        return False


def _change(program: str, verb: str, bridge: Bridge, direction: str) -> bool:
    return command.run((program, "-w", verb, _CHAIN, direction, bridge.name, "-j", "ACCEPT")).exit_code == 0
