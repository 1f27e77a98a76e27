"""Others who look after this host's network: what they drop is dropped, whatever our own rules accept.

docker drops all that is forwarded and not its own. Where it has its chain DOCKER-USER, which it makes for the rules of
others and keeps as they are, each of our bridges gets two rules there that accept; what may enter and leave such a
bridge is still decided by our own table. Nothing else of anybody else's is touched: a firewall that drops what we
forward is told of, with the commands that mend it. libvirt's rules are about its own bridges only.

Source: docs.docker.com/engine/network/packet-filtering-firewalls, "Add iptables policies before Docker's rules";
man nft(8), "chains": a packet that one base chain accepts goes on to the next one of the same hook.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lab.container.network import legacy_tables, presence
from lab.container.network.model import Bridge
from lab.linux import command, nftables

_CHAIN = "DOCKER-USER"
_PROGRAMS = {"iptables": "ip", "ip6tables": "ip6"}
_DIRECTIONS = ("-i", "-o")
_OUR_LINKS = "lab-"
_KEYS = ("iifname", "oifname")

Entries = list[Mapping[str, Any]]  # Any: what libnftables writes


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """A chain of somebody else's that drops what our bridges forward.

    ``program`` is what changes it where that is neither nft nor iptables' usual one.
    """

    family: str
    table: str
    chain: str
    link: str
    program: str = ""

    @property
    def text(self) -> str:
        """What is wrong."""
        return f"{self.subject} of this host's firewall drops what containers send and get"

    @property
    def subject(self) -> str:
        """Who drops it."""
        of_old = f" ({self.program})" if self.program else ""
        return f"chain {self.chain} of table {self.family} {self.table}{of_old}"

    @property
    def hint(self) -> str:
        """The commands that mend it."""
        program = self.program or next((name for name, family in _PROGRAMS.items() if family == self.family), "")
        if program and (self.table, self.chain) == ("filter", "FORWARD"):
            link = self.link.replace("*", "+")
            return " && ".join(f"{program} -I FORWARD {direction} {link} -j ACCEPT" for direction in _DIRECTIONS)
        where = f"{self.family} {self.table} {self.chain}"
        return " && ".join(f"nft insert rule {where} {key} '\"{self.link}\"' accept" for key in _KEYS)


def accommodate(bridge: Bridge) -> None:
    """Let docker's rules accept what a bridge of ours carries; without docker nothing happens."""
    for program, direction in _rules():
        if not _change(program, "-C", bridge.name, direction):
            _change(program, "-I", bridge.name, direction)


def is_accommodated(bridge: Bridge) -> bool:
    """Return whether docker's rules, if it has any, accept what a bridge carries."""
    return all(_change(program, "-C", bridge.name, direction) for program, direction in _rules())


def forget(bridge: str) -> None:
    """Take a bridge's rules out of docker's chain again; safe to repeat."""
    for program, direction in _rules():
        while _change(program, "-D", bridge, direction):
            continue


def _rules() -> list[tuple[str, str]]:
    present = [program for program, family in _PROGRAMS.items() if _has_chain(program, family)]
    return [(program, direction) for program in present for direction in _DIRECTIONS]


def _has_chain(program: str, family: str) -> bool:
    if any(entry.get("chain", {}).get("name") == _CHAIN for entry in _listed(f"list chains {family}")):
        return True
    if not presence.is_docker_here():
        return False
    try:  # docker with the older tables, which nftables does not show
        return command.run((program, "-w", "-n", "-L", _CHAIN)).exit_code == 0
    except FileNotFoundError:
        return False


def _change(program: str, verb: str, bridge: str, direction: str) -> bool:
    return command.run((program, "-w", verb, _CHAIN, direction, bridge, "-j", "ACCEPT")).exit_code == 0


def _listed(what: str) -> Entries:
    found: Entries = json.loads(nftables.listing(what))["nftables"]
    return found


def obstacles(bridge: Bridge) -> tuple[Obstacle, ...]:
    """Return the chains of others that drop what a bridge forwards, those of iptables' older tables included.

    Raises:
        OSError: nftables cannot be asked.
    """
    if bridge.internal:
        return ()
    found: list[Obstacle] = []
    for family in ("ip", "ip6", "inet") if bridge.subnet6 else ("ip", "inet"):
        for table in sorted(_forwarding_tables(_listed(f"list chains {family}"))):
            with contextlib.suppress(FileNotFoundError):  # its owner has just removed it
                found += dropping(_listed(f"list table {family} {table}"), bridge.name)
    families = ("ip", "ip6") if bridge.subnet6 else ("ip",)
    for program in legacy_tables.droppers(bridge.name, families):
        if not _has_docker(program):  # which ``accommodate`` asks
            found.append(_of_old(program, bridge.name))
    return tuple(found)


def _has_docker(program: str) -> bool:
    return command.run((program, "-w", "-n", "-L", _CHAIN)).exit_code == 0


def _of_old(program: str, bridge: str) -> Obstacle:
    family = _PROGRAMS[program.removesuffix("-legacy")]
    return Obstacle(family=family, table="filter", chain="FORWARD", link=_wildcard(bridge), program=program)


def _wildcard(bridge: str) -> str:
    """Return what matches all our bridges that have no name of their own, or else the bridge."""
    return f"{_OUR_LINKS}*" if bridge.startswith(_OUR_LINKS) else bridge


def _forwarding_tables(entries: Entries) -> set[str]:
    chains = (entry["chain"] for entry in entries if "chain" in entry)
    return {chain["table"] for chain in chains if chain.get("hook") == "forward"}


def dropping(entries: Entries, bridge: str) -> Iterator[Obstacle]:
    """Give the chains of one table, as nftables lists it, that drop what a bridge forwards; pure.

    A chain does whose policy is to drop, or that ends with a rule which drops all, unless some rule of the table
    accepts what comes from the bridge, and some rule what goes there.
    """
    rules = [entry["rule"] for entry in entries if "rule" in entry]
    if any(entry.get("chain", {}).get("name") == _CHAIN for entry in entries):
        return  # docker's, which ``accommodate`` asks
    if all(any(_accepts(rule["expr"], key, bridge) for rule in rules) for key in _KEYS):
        return
    for chain in (entry["chain"] for entry in entries if "chain" in entry):
        own = [rule["expr"] for rule in rules if rule["chain"] == chain["name"]]
        if chain.get("hook") == "forward" and (chain.get("policy") == "drop" or (own and _drops_all(own[-1]))):
            yield Obstacle(family=chain["family"], table=chain["table"], chain=chain["name"], link=_wildcard(bridge))


def _accepts(expressions: Entries, key: str, bridge: str) -> bool:
    matches = [each["match"] for each in expressions if "match" in each]
    named = any(
        match["left"] == {"meta": {"key": key}} and match["op"] in ("==", "in") and _names(match["right"], bridge)
        for match in matches
    )
    return named and any("accept" in each for each in expressions)


def _names(right: object, bridge: str) -> bool:
    if isinstance(right, Mapping):
        return any(_names(each, bridge) for each in _members(right))
    if not isinstance(right, str):
        return False
    return right.startswith("@") or fnmatch.fnmatchcase(bridge, right)  # what is in a named set is its owner's matter


def _members(right: Mapping[str, object]) -> Iterable[object]:
    members = right.get("set")
    return members if isinstance(members, list) else ()


def _drops_all(expressions: Entries) -> bool:
    verdicts = [each for each in expressions if "counter" not in each]
    return len(verdicts) == 1 and bool({"drop", "reject"} & set(verdicts[0]))
