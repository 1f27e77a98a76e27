"""The networks of a root: those that every root has, and those that users make, one file each.

networks/<id>.json      a network that a user has made: there before its bridge, gone after it
networks/known.lock     one at a time makes or removes one
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterator

from lab.container.network import ipam, presence
from lab.container.network.model import Network
from lab.container.network.request import PREDEFINED, Request, check, check_driver, design
from lab.container.spec import codec
from lab.container.storage import durable
from lab.errors import NoSuchNetwork, StateConflict
from lab.linux import links
from lab.paths import Paths

_SUFFIX = ".json"
_ID_DIGITS = 64


class Networks:
    """All networks of one root."""

    def __init__(self, paths: Paths) -> None:
        """Nothing is made before the first network is."""
        self._paths = paths

    def all(self) -> tuple[Network, ...]:
        """Return all networks, by name."""
        return tuple(sorted((*map(self._predefined, PREDEFINED), *self.made()), key=lambda each: each.name))

    def made(self) -> tuple[Network, ...]:
        """Return those that users have made."""
        try:
            names = os.listdir(self._paths.networks)
        except FileNotFoundError:
            return ()
        ids = (name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))
        found = (self._read(network_id) for network_id in ids if len(network_id) == _ID_DIGITS)
        return tuple(network for network in found if network is not None)

    def find(self, reference: str) -> Network:
        """Return the network that is meant by a name, an id, or the unique beginning of one.

        Raises:
            NoSuchNetwork: none is, or more than one.
        """
        if reference in PREDEFINED:
            return self._predefined(reference)
        known = self.all()
        exact = [network for network in known if reference in (network.name, network.id)]
        begun = [network for network in known if reference and network.id.startswith(reference)]
        found = exact[:1] or begun
        if len(found) > 1:
            raise NoSuchNetwork(f"network {reference} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise NoSuchNetwork(f"network {reference} not found", hint="lab network ls")
        return found[0]

    def _predefined(self, name: str) -> Network:
        made = presence.recorded(self._paths) if name == "bridge" else None
        return Network(
            id=presence.predefined_id(self._paths, name),
            name=name,
            driver=presence.DRIVERS[name],
            bridge=None if made is None else made.bridge,
        )

    def create(self, request: Request) -> Network:
        """Make a network, its bridge up.

        Raises:
            SpecError: something that is asked for cannot be.
            StateConflict: the name is taken, the subnet, or the name of the bridge.
            KernelError: the kernel or nftables refused; nothing is left.
        """
        from lab.container.network import apply  # its import costs 200 ms, and only few make networks

        check(request)
        with self._locked():
            known = self.all()
            if any(network.name == request.name for network in known if not network.is_predefined):
                raise StateConflict(f"network with name {request.name} already exists", hint="lab network ls")
            check_driver(request)
            bridges = [network.bridge for network in known if network.bridge is not None]
            subnets = tuple(filter(None, (text for bridge in bridges for text in (bridge.subnet, bridge.subnet6))))
            routes = apply.look().routes
            network = design(request, secrets.token_hex(32), created_ns=time.time_ns(), taken=subnets, routes=routes)
            assert network.bridge is not None
            if links.exists(network.bridge.name):
                raise StateConflict(f"there is a link {network.bridge.name} on this host already", hint="ip link")
            self._write(network)
            try:
                apply.ensure(self._paths, network.bridge)
            except BaseException:
                self._take_away(network)
                raise
        return network

    def ensure(self, network: Network) -> None:
        """See that a network's bridge is up, which costs a look, and bring it up again if it is not.

        Raises:
            KernelError: the kernel or nftables refused.
            StateConflict: the host has a route by now that overlaps its subnet.
        """
        assert network.bridge is not None
        if not presence.is_ready(self._paths, network.bridge.name):  # after a reboot, a removal, docker's coming
            from lab.container.network import apply

            apply.ensure(self._paths, network.bridge)

    def remove(self, network: Network) -> None:
        """Remove a network that nobody is connected with.

        Raises:
            StateConflict: it is predefined, or a container is connected with it.
            KernelError: the kernel or nftables refused.
        """
        if network.is_predefined:
            raise StateConflict(f"{network.name} is a pre-defined network and cannot be removed")
        assert network.bridge is not None
        with self._locked(), ipam.locked(self._paths.networks, network.bridge.name):
            if ipam.leased(self._paths.networks, network.bridge.name):
                raise StateConflict(
                    f"error while removing network: network {network.name} id {network.id} has active endpoints",
                    hint=f"lab network inspect {network.name} shows who is connected",
                )
            self._take_away(network)

    def _take_away(self, network: Network) -> None:
        from lab.container.network import apply, dns

        assert network.bridge is not None
        dns.end(self._paths, network)
        apply.remove(self._paths, network.bridge)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(network.id))
        ipam.forget(self._paths.networks, network.bridge.name)

    def exists(self, network: Network) -> bool:
        """Return whether a network has not been removed meanwhile."""
        return network.is_predefined or os.path.exists(self._path(network.id))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        os.makedirs(self._paths.networks, mode=0o700, exist_ok=True)
        with durable.locked(os.path.join(self._paths.networks, "known.lock")):
            yield

    def _path(self, network_id: str) -> str:
        return os.path.join(self._paths.networks, network_id + _SUFFIX)

    def _read(self, network_id: str) -> Network | None:
        try:
            with open(self._path(network_id), encoding="utf-8") as file:
                return codec.decode(Network, json.load(file))
        except FileNotFoundError:  # it has just been removed
            return None

    def _write(self, network: Network) -> None:
        durable.write_atomically(self._path(network.id), json.dumps(codec.encode(network)).encode(), mode=0o600)
