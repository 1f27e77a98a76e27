"""What a guest target's network card is connected to: a link of its own, our containers' bridge, or QEMU itself."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from lab.container.network import apply, ipam
from lab.paths import Paths
from lab.target.spec import Endpoint, NetworkMode, TargetSpec
from lab.vm import network
from lab.vm.domain_spec import DomainNetwork, UserNetwork
from lab.vm.makeup import NetworkKind

_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLink:
    """A network for one guest, and how its addresses are given back."""

    network: DomainNetwork | UserNetwork
    release: Callable[[], None]

    @property
    def host_links(self) -> tuple[str, ...]:
        """The links that the host has of it while the guest runs."""
        return (self.network.link,) if isinstance(self.network, DomainNetwork) else ()

    def endpoint(self, port: int) -> Endpoint:
        """Return where the host reaches what listens on ``port`` in the guest."""
        if isinstance(self.network, DomainNetwork):
            return Endpoint(host=self.network.guest_address, port=port)
        forwards = {inner: outer for outer, inner in self.network.forwards}
        return Endpoint(host=_LOOPBACK, port=forwards[port])


def connect(paths: Paths, spec: TargetSpec, kind: NetworkKind) -> GuestLink | None:
    """Reserve a network for a guest; None for one that is to have none.

    Raises:
        UnavailableError: there are no addresses left.
        ContainerError, KernelError: the bridge cannot be made, or has no address left.
    """
    if spec.network is NetworkMode.NONE:
        return None
    return _CONNECT[kind](paths, spec)


def _tap(_paths: Paths, _spec: TargetSpec) -> GuestLink:
    lease = network.lease()
    return GuestLink(network=lease.network, release=lease.release)


def _bridge(paths: Paths, spec: TargetSpec) -> GuestLink:
    attachment = apply.lease(paths, spec.name)
    on_bridge = DomainNetwork(
        link=attachment.host_link,
        mac=attachment.mac,
        host_address=attachment.gateway,
        guest_address=attachment.address,
        prefix_length=attachment.prefix_length,
        bridge=attachment.bridge,
    )
    return GuestLink(network=on_bridge, release=lambda: ipam.release(paths.networks, attachment))


def _user(_paths: Paths, spec: TargetSpec) -> GuestLink:
    forwards = () if spec.service_port is None else ((_free_port(), spec.service_port),)
    return GuestLink(network=network.user_network(forwards), release=lambda: None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


_CONNECT = {NetworkKind.TAP: _tap, NetworkKind.BRIDGE: _bridge, NetworkKind.USER: _user}
