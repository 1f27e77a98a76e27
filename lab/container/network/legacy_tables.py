"""The older tables of iptables, which nftables does not show: whether their chain FORWARD drops what we forward.

They are asked only where the kernel says that the host's network has such a table, since asking makes one.
Source: man iptables(8); "iptables-legacy -S" writes the rules as the commands that make them.
"""

from __future__ import annotations

import fnmatch
import itertools
import shlex
from collections.abc import Iterator

from lab.linux import command

_PROGRAMS = {"ip": ("iptables-legacy", "ip_tables_names"), "ip6": ("ip6tables-legacy", "ip6_tables_names")}
_TABLE = "filter"
_DROPPED = ("DROP", "REJECT")
_DIRECTIONS = ("-i", "-o")


def droppers(bridge: str, families: tuple[str, ...]) -> Iterator[str]:
    """Give the program of each family whose chain FORWARD drops what a bridge forwards."""
    for family, (program, names) in _PROGRAMS.items():
        if family in families and _is_used(names) and drops(_rules(program), bridge):
            yield program


def _is_used(names: str) -> bool:
    try:
        with open(f"/proc/net/{names}", encoding="ascii") as file:
            return _TABLE in file.read().split()
    except FileNotFoundError:  # the kernel does not have them
        return False


def _rules(program: str) -> str:
    try:
        return command.run((program, "-w", "-S", "FORWARD")).text
    except FileNotFoundError:  # who made them has gone, and we cannot look
        return ""


def drops(rules: str, bridge: str) -> bool:
    """Return whether a chain, as iptables writes its rules, drops what a bridge forwards; pure.

    It does if its policy is to drop, or if it ends with a rule that drops all, unless some rule accepts what comes from
    the bridge, and some rule what goes there.
    """
    policy, *appended = [shlex.split(line) for line in rules.splitlines()] or [[]]
    if all(any(_accepts(rule, direction, bridge) for rule in appended) for direction in _DIRECTIONS):
        return False
    return policy[-1:] == ["DROP"] or (bool(appended) and _drops_all(appended[-1]))


def _accepts(rule: list[str], direction: str, bridge: str) -> bool:
    pairs = list(itertools.pairwise(rule))
    named = any(word == direction and fnmatch.fnmatchcase(bridge, name.replace("+", "*")) for word, name in pairs)
    return named and "!" not in rule and ("-j", "ACCEPT") in pairs


def _drops_all(rule: list[str]) -> bool:
    """Return whether a rule, "-A FORWARD -j REJECT …", matches everything."""
    return rule[2:3] == ["-j"] and rule[3] in _DROPPED
