"""--network, --network-alias, --ip, --ip6, --mac-address: a container's networks, and what it is to be there; pure.

Source: docs.docker.com/reference/cli/docker/container/run, "Connect a container to a network".
"""

from __future__ import annotations

import csv
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import replace

from lab.container.network.model import Endpoint
from lab.errors import SpecError

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MULTICAST = 0x01


def asked(
    networks: Sequence[str], *, aliases: Sequence[str] = (), address: str = "", address6: str = "", mac: str = ""
) -> tuple[Endpoint, ...]:
    """Return the endpoints that flags ask for; what is no part of a network's own flag is about the first one.

    Raises:
        SpecError: one of them is none.
    """
    found = [_endpoint(text) for text in networks]
    names = [each.network for each in found]
    for name in names:
        if names.count(name) > 1:
            raise SpecError(f'network "{name}" is specified multiple times')
    if not (aliases or address or address6 or mac):
        return tuple(found)
    first, *others = found or [Endpoint(network="bridge")]
    first = replace(
        first,
        aliases=(*first.aliases, *aliases),
        address=ip(address, 4) or first.address,
        address6=ip(address6, 6) or first.address6,
        mac=hardware_address(mac) or first.mac,
    )
    return (first, *others)


def _endpoint(text: str) -> Endpoint:
    """Return "NAME", or "name=NAME,alias=…,ip=…,ip6=…,mac-address=…"."""
    if "=" not in text:
        return Endpoint(network=text)
    found: dict[str, list[str]] = {}
    for field in next(csv.reader([text])):
        name, _, value = field.partition("=")
        if name.strip().lower() not in ("name", "alias", "ip", "ip6", "mac-address"):
            raise SpecError(f"invalid field key {name}")
        found.setdefault(name.strip().lower(), []).append(value.strip())
    if not found.get("name"):
        raise SpecError(f"network name/id is not specified: {text}")
    last = {name: values[-1] for name, values in found.items()}
    return Endpoint(
        network=last["name"],
        aliases=tuple(found.get("alias", ())),
        address=ip(last.get("ip", ""), 4),
        address6=ip(last.get("ip6", ""), 6),
        mac=hardware_address(last.get("mac-address", "")),
    )


def ip(text: str, version: int) -> str:
    """Return an address as it is usually written, "" for "".

    Raises:
        SpecError: it is none of this version of IP.
    """
    if not text:
        return ""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise SpecError(f"invalid IPv{version} address: {text}") from None
    if found.version != version:
        raise SpecError(f"invalid IPv{version} address: {text}")
    return str(found)


def hardware_address(text: str) -> str:
    """Return a hardware address in lower case with colons, "" for "".

    Raises:
        SpecError: it is none, or one of a group.
    """
    plain = text.lower().replace("-", ":")
    if plain and (not _MAC.fullmatch(plain) or int(plain[:2], 16) & _MULTICAST):
        raise SpecError(f"{text} is not a valid mac address")
    return plain
