"""The nouns of container networking: a bridge of ours on the host, and one target's attachment to it."""

from __future__ import annotations

from dataclasses import dataclass

INNER_LINK = "eth0"
"""What a target calls its only link besides the loopback."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """The one bridge of a lab root: ``subnet`` in CIDR form, ``gateway`` the host's own address in it."""

    name: str
    subnet: str
    gateway: str

    @property
    def prefix_length(self) -> int:
        """The number of bits of the subnet that are the network's."""
        return int(self.subnet.rpartition("/")[2])


AttachmentFields = tuple[str, str, str, int, str, str]
"""An attachment as plain data: bridge, host_link, address, prefix_length, gateway, mac."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """One target's place on a bridge.

    ``bridge`` and ``host_link`` are names of links on the host; ``address``, ``prefix_length``, ``gateway`` (IPv4) and
    ``mac`` are what the target's ``eth0`` gets.
    """

    bridge: str
    host_link: str
    address: str
    prefix_length: int
    gateway: str
    mac: str

    def flatten(self) -> AttachmentFields:
        """Return the fields as plain data, which a spawner takes."""
        return (self.bridge, self.host_link, self.address, self.prefix_length, self.gateway, self.mac)
