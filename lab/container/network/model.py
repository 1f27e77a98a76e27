"""The nouns of container networking: a bridge of ours on the host, and one target's attachment to it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field

INNER_LINK = "eth0"
"""What a target calls its first link besides the loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """A bridge of a lab root: ``subnet`` in CIDR form, ``gateway`` the host's own address in it.

    ``ip_range`` in CIDR form is where addresses come from, "" for the whole subnet; ``subnet6`` and ``gateway6`` are ""
    without IPv6. Nothing leaves one that is ``internal``; what leaves gets the host's address if it ``masquerade``s.
    Without ``talks`` its targets reach the host only, not each other. ``mtu`` in bytes, 0 for the kernel's own.
    """

    name: str
    subnet: str
    gateway: str
    ip_range: str = ""
    subnet6: str = ""
    gateway6: str = ""
    internal: bool = False
    masquerade: bool = True
    talks: bool = True
    mtu: int = 0

    @property
    def prefix_length(self) -> int:
        """The number of bits of the subnet that are the network's."""
        return int(self.subnet.rpartition("/")[2])

    @property
    def prefix6_length(self) -> int:
        """The same of the IPv6 subnet, 0 without one."""
        return int(self.subnet6.rpartition("/")[2] or 0)

    @property
    def own_addresses(self) -> tuple[str, ...]:
        """The host's addresses in it, in CIDR form."""
        found = [f"{self.gateway}/{self.prefix_length}"]
        if self.subnet6:
            found.append(f"{self.gateway6}/{self.prefix6_length}")
        return tuple(found)


AttachmentFields = tuple[str, str, str, int, str, str, str, str, int, str, int, bool, bool]
"""An attachment as plain data: its fields in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One target's place on a bridge.

    ``bridge`` and ``host_link`` are names of links on the host; ``address``, ``prefix_length``, ``gateway`` (IPv4, ""
    for no way out) and ``mac`` are what the target's ``inner_link`` gets, and the same of IPv6 with an ``address6``.
    ``mtu`` 0 is the kernel's own; who is ``isolated`` reaches nobody else on the bridge; with ``hairpin`` the bridge
    sends back to it what it has sent itself: where bridged packets pass the host's rules, a published port leads so.
    ``host_address`` is where the host itself is, whether or not it leads anywhere else.
    """

    bridge: str
    host_link: str
    address: str
    prefix_length: int
    gateway: str
    mac: str
    inner_link: str = INNER_LINK
    address6: str = ""
    prefix6_length: int = 0
    gateway6: str = ""
    mtu: int = 0
    isolated: bool = False
    hairpin: bool = False
    host_address: str = ""

    @property
    def addresses(self) -> tuple[str, ...]:
        """Its addresses, IPv4 first."""
        return tuple(filter(None, (self.address, self.address6)))

    def flatten(self) -> AttachmentFields:
        """Return the fields as plain data, which a spawner takes."""
        return (
            self.bridge,
            self.host_link,
            self.address,
            self.prefix_length,
            self.gateway,
            self.mac,
            self.inner_link,
            self.address6,
            self.prefix6_length,
            self.gateway6,
            self.mtu,
            self.isolated,
            self.hairpin,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a container is, or is to be, on one network: named as its user named it.

    ``address``, ``address6`` and ``mac`` are what its user asks for, "" for any; ``aliases`` are its further names
    there, ``links`` ("NAME:ALIAS") what it alone calls others there. The ``attachment`` is there from its first start
    on, with the ``network_id`` of the network that it is on.
    """

    network: str
    aliases: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    address: str = ""
    address6: str = ""
    mac: str = ""
    network_id: str = ""
    attachment: Attachment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network; ``bridge`` is None for those that have none.

    ``asked`` says that its user chose the subnet, ``gateways`` which addresses of the host he chose.
    """

    id: str
    name: str
    driver: str
    bridge: Bridge | None = None
    created_ns: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    attachable: bool = False
    asked: bool = False
    gateways: tuple[str, ...] = ()

    @property
    def is_predefined(self) -> bool:
        """Whether every root has it: no user has made it."""
        return not self.created_ns


def hardware_address(address: str) -> str:
    """Return the hardware address that goes with an IPv4 address: locally administered, and unique where that is."""
    return ":".join(f"{byte:02x}" for byte in (0x02, 0x42, *ipaddress.IPv4Address(address).packed))
