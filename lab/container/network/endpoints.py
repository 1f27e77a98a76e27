"""Endpoints of a container: its places on its networks, taken together when it starts, or one more while it runs."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from lab.container.network import ipam
from lab.container.network.model import INNER_LINK, Attachment, Bridge, Endpoint, Network
from lab.container.network.networks import Networks
from lab.errors import ContainerError, NoSuchNetwork
from lab.paths import Paths

_STEM = INNER_LINK.rstrip("0123456789")


def attach_all(
    paths: Paths, owner: str, endpoints: Sequence[Endpoint], ensure_default: Callable[[], Bridge]
) -> tuple[Endpoint, ...]:
    """Give each endpoint of a container its place, in their order: the first one is its eth0.

    Raises:
        NoSuchNetwork: a network has gone.
        ContainerError: an address is taken, or cannot be asked for on that network.
        KernelError: a bridge could not be made.
    """
    with ExitStack() as undo:
        found = []
        for number, endpoint in enumerate(endpoints):
            attached = attach(paths, owner, endpoint, f"{_STEM}{number}", ensure_default)
            assert attached.attachment is not None
            undo.callback(ipam.release, paths.networks, attached.attachment)
            found.append(attached)
        undo.pop_all()
    return with_one_way_out(found)


def attach(
    paths: Paths, owner: str, endpoint: Endpoint, inner_link: str, ensure_default: Callable[[], Bridge]
) -> Endpoint:
    """Give one endpoint its place; what it raises is said at ``attach_all``."""
    networks = Networks(paths)
    network = networks.find(endpoint.network)
    _check(network, endpoint)
    if network.is_predefined:
        bridge = ensure_default()
    else:
        networks.ensure(network)
        assert network.bridge is not None
        bridge = network.bridge
    before = endpoint.attachment.address if endpoint.attachment is not None else ""
    wish = ipam.Wish(
        address=endpoint.address,
        address6=endpoint.address6,
        mac=endpoint.mac,
        before=before if before and _belongs(before, bridge.subnet) else "",
    )
    attachment = replace(ipam.lease(paths.networks, bridge, owner, wish), inner_link=inner_link)
    if not networks.exists(network):  # it was removed before we had an address on it
        ipam.release(paths.networks, attachment)
        raise NoSuchNetwork(f"network {endpoint.network} not found", hint="lab network ls")
    return replace(endpoint, attachment=attachment, network_id=network.id)


def _check(network: Network, endpoint: Endpoint) -> None:
    if network.is_predefined:
        if network.bridge is None and network.name != "bridge":
            raise ContainerError("container cannot be disconnected from host network or connected to host network")
        if endpoint.address or endpoint.address6:
            raise ContainerError("user specified IP address is supported on user defined networks only")
        if endpoint.aliases:
            raise ContainerError("network-scoped alias is supported only for containers in user defined networks")
        return
    assert network.bridge is not None
    asked = ((endpoint.address, network.bridge.subnet), (endpoint.address6, network.bridge.subnet6))
    for address, subnet in asked:
        if address and not network.asked:
            raise ContainerError(
                "user specified IP address is supported only when connecting to networks with user configured subnets",
                hint="lab network create --subnet …",
            )
        if address and not (subnet and _belongs(address, subnet)):
            raise ContainerError(f"Invalid address {address}: It does not belong to any of this network's subnets")
        if address in (network.bridge.gateway, network.bridge.gateway6) and address:
            raise ContainerError("Address already in use", hint=f"{address} is the host's own on this network")


def _belongs(address: str, subnet: str) -> bool:
    return ipaddress.ip_address(address) in ipaddress.ip_network(subnet)


def with_one_way_out(endpoints: Iterable[Endpoint]) -> tuple[Endpoint, ...]:
    """Return endpoints of which one has the way out: the first by name of those whose network is not internal.

    Source: github.com/moby/libnetwork, the order of a sandbox's endpoints.
    """
    known = tuple(endpoints)
    open_ones = [each for each in known if each.attachment is not None and each.attachment.gateway]
    chosen = min(open_ones, key=lambda each: each.network, default=None)
    return tuple(each if each is chosen else _closed(each) for each in known)


def _closed(endpoint: Endpoint) -> Endpoint:
    if endpoint.attachment is None:
        return endpoint
    return replace(endpoint, attachment=replace(endpoint.attachment, gateway="", gateway6=""))


def way_out(attachments: Sequence[Attachment]) -> Attachment | None:
    """Return the attachment through which a container reaches the world, and ports of the host reach it; or None."""
    return next((each for each in attachments if each.gateway), None)


def next_link(attachments: Iterable[Attachment]) -> str:
    """Return the name of a container's next link."""
    taken = {each.inner_link for each in attachments}
    return next(name for number in range(len(taken) + 1) if (name := f"{_STEM}{number}") not in taken)
