"""What a user asks of a new network -> the network: checked, with what was left to us chosen; pure.

Source: docs.docker.com/reference/cli/docker/network/create, and the words of a daemon.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from lab.container.network import plan
from lab.container.network.model import Bridge, Network
from lab.errors import SpecError, StateConflict

PREDEFINED = ("bridge", "host", "none")
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_LINK = re.compile(r"[a-zA-Z0-9_.-]{1,15}")
_OPTION = "com.docker.network.bridge."
_MTU = "com.docker.network.driver.mtu"
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}
_MTU_MAX = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a user asks for; empty is left to us."""

    name: str
    driver: str = "bridge"
    subnets: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    ip_ranges: tuple[str, ...] = ()
    internal: bool = False
    ipv6: bool = False
    attachable: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pool:
    """One subnet with what belongs to it; "" where there is none."""

    subnet: str = ""
    gateway: str = ""
    ip_range: str = ""


def design(
    request: Request, network_id: str, *, created_ns: int, taken: Collection[str], routes: Collection[str]
) -> Network:
    """Return the network that is asked for; ``taken`` are the subnets of others, ``routes`` those of the host.

    Raises:
        SpecError: something that is asked for cannot be.
        StateConflict: a subnet is in use.
    """
    pool, pool6 = _pool(request, 4), _pool(request, 6)
    if not pool.subnet:
        chosen = plan.choose_subnet(network_id, (*routes, *taken))
        pool = _Pool(subnet=str(chosen), gateway=str(chosen[1]))
    if request.ipv6 and not pool6.subnet:
        pool6 = _unique_local(network_id)
    for subnet in filter(None, (pool.subnet, pool6.subnet)):
        _require_free(subnet, taken, routes)
    return Network(
        id=network_id,
        name=request.name,
        driver=request.driver,
        bridge=_bridge(request, network_id, pool, pool6),
        created_ns=created_ns,
        labels=dict(request.labels),
        options=dict(request.options),
        attachable=request.attachable,
        asked=bool(request.subnets),
        gateways=request.gateways,
    )


def check(request: Request) -> None:
    """Check what can be checked without a look at the host.

    Raises:
        SpecError: something that is asked for cannot be.
    """
    for version in (4, 6):
        _pool(request, version)
    if request.name in PREDEFINED:
        raise SpecError(f"operation is not permitted on predefined {request.name} network")
    if not _NAME.fullmatch(request.name):
        raise SpecError(
            f'invalid name: "{request.name}"; only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed', hint="choose another name"
        )


def check_driver(request: Request) -> None:
    """Check that there is such a driver.

    Raises:
        SpecError: there is none.
    """
    if request.driver != "bridge":
        raise SpecError(f"could not find plugin {request.driver} in v1 plugin registry: plugin not found")


def _pool(request: Request, version: int) -> _Pool:
    """Return what is asked for of one version of IP.

    Raises:
        SpecError: more than one subnet, or a gateway or range that belongs to none.
    """
    networks = [_network(text) for text in request.subnets]
    for text in request.gateways:
        if not any(_address(text) in network for network in networks):
            raise SpecError(f"no matching subnet for gateway {text}")
    for text in request.ip_ranges:
        if not any(_within(_network(text), network) for network in networks):
            raise SpecError(f"no matching subnet for range {text}")
    mine = [network for network in networks if network.version == version]
    if len(mine) > 1:
        raise SpecError(f"bridge driver supports one IPv{version} subnet only", hint="make another network")
    if not mine:
        return _Pool()
    gateway = next((text for text in request.gateways if _address(text).version == version), str(mine[0][1]))
    span = next((text for text in request.ip_ranges if _network(text).version == version), "")
    return _Pool(subnet=str(mine[0]), gateway=gateway, ip_range=span)


_IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


def _within(inner: _IpNetwork, outer: _IpNetwork) -> bool:
    return inner.version == outer.version and inner.network_address in outer and inner.broadcast_address in outer


def _network(text: str) -> _IpNetwork:
    try:
        network = ipaddress.ip_network(text, strict=False)  # docker takes a host's address as well
    except ValueError:
        raise SpecError(f"invalid subnet {text}: not an address with the bits of its network after a slash") from None
    if "/" not in text or network.num_addresses < 4:
        raise SpecError(f"invalid subnet {text}: there is no room in it", hint="such as 10.1.2.0/24")
    return network


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise SpecError(f"invalid gateway address: {text}") from None


def _unique_local(network_id: str) -> _Pool:
    """Return a subnet for IPv6 that nobody else has. Source: RFC 4193, "Local IPv6 Unicast Addresses"."""
    digits = hashlib.sha256(network_id.encode()).hexdigest()
    subnet = ipaddress.IPv6Network(f"fd{digits[:2]}:{digits[2:6]}:{digits[6:10]}:{digits[10:14]}::/64")
    return _Pool(subnet=str(subnet), gateway=str(subnet[1]))


def _require_free(subnet: str, taken: Collection[str], routes: Collection[str]) -> None:
    other = plan.overlapping(subnet, taken)
    if other:
        raise StateConflict(
            "Pool overlaps with other one on this address space", hint=f"another network has {other}: lab network ls"
        )
    plan.require_free(subnet, routes)


def _bridge(request: Request, network_id: str, pool: _Pool, pool6: _Pool) -> Bridge:
    name = request.options.get(f"{_OPTION}name") or f"lab-{network_id[:8]}"
    if not _LINK.fullmatch(name):
        raise SpecError(f"invalid name of a bridge: {name}", hint="at most 15 letters, digits, '_', '.', '-'")
    mtu = request.options.get(_MTU, "0")
    if not (mtu.isascii() and mtu.isdigit() and int(mtu) <= _MTU_MAX):
        raise SpecError(f"failed to parse {_MTU} value: {mtu}")
    return Bridge(
        name=name,
        subnet=pool.subnet,
        gateway=pool.gateway,
        ip_range=pool.ip_range,
        subnet6=pool6.subnet,
        gateway6=pool6.gateway,
        internal=request.internal,
        masquerade=_truth(request.options, "enable_ip_masquerade"),
        talks=_truth(request.options, "enable_icc"),
        mtu=int(mtu),
    )


def _truth(options: Mapping[str, str], name: str) -> bool:
    text = options.get(f"{_OPTION}{name}", "true")
    if text not in _TRUTHS:
        raise SpecError(f'failed to parse {_OPTION}{name} value: strconv.ParseBool: parsing "{text}": invalid syntax')
    return _TRUTHS[text]
