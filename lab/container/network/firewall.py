"""The rules of one root, as scripts in nft(8)'s language: one table of its own, filled through sets and maps; pure.

The table's chains never change. A network is a handful of elements in its sets, a published port one or two elements in
its maps, so each comes and goes by one transaction, and a packet is looked up in the same time however many there are.
Other tables are never touched; that what somebody else drops must be accepted there too is said in ``neighbours.py``.

Source: man nft(8); kernel Documentation/networking/ip-sysctl, "route_localnet".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from lab.container.network.model import Bridge
from lab.container.port_bindings import ContainerPort, HostPort

_ANY = {4: "0.0.0.0", 6: "::"}

_TABLE = """
table inet {name} {{
  set bridges {{ type ifname; }}
  set closed {{ type ifname; }}
  set same {{ type ifname . ifname; }}
  set translated4 {{ type ipv4_addr; flags interval; }}
  set translated6 {{ type ipv6_addr; flags interval; }}
  map at4 {{ type inet_proto . ipv4_addr . inet_service : ipv4_addr . inet_service; }}
  map any4 {{ type inet_proto . inet_service : ipv4_addr . inet_service; }}
  map at6 {{ type inet_proto . ipv6_addr . inet_service : ipv6_addr . inet_service; }}
  map any6 {{ type inet_proto . inet_service : ipv6_addr . inet_service; }}
  map asked4 {{ type ipv4_addr . ipv4_addr : inet_service; }}
  chain guard {{
    type filter hook prerouting priority raw; policy accept;
    iifname @bridges ip daddr 127.0.0.0/8 drop
  }}
  chain published {{
    dnat ip to meta l4proto . ip daddr . th dport map @at4
    dnat ip to meta l4proto . th dport map @any4
    dnat ip6 to meta l4proto . ip6 daddr . th dport map @at6
    dnat ip6 to meta l4proto . th dport map @any6
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    meta l4proto {{ tcp, udp }} th dport 53 redirect to :ip saddr . ip daddr map @asked4
    fib daddr type local jump published
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    ip6 daddr ::1 return
    fib daddr type local jump published
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    ct state established,related accept
    iifname . oifname @same accept
    iifname @closed drop
    oifname @closed drop
    ct status dnat accept
    oifname @bridges drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname @bridges ip saddr 127.0.0.0/8 masquerade
    oifname @bridges ct status dnat ip saddr @translated4 masquerade
    oifname @bridges ct status dnat ip6 saddr @translated6 masquerade
    oifname != @bridges ip saddr @translated4 masquerade
    oifname != @bridges ip6 saddr @translated6 masquerade
  }}
}}
"""


def table(name: str) -> str:
    """Return what makes a root's table; of one that is there, nothing is asked.

    What is dropped in ``guard`` is what ``route_localnet``, which lets the host's loopback reach containers, would let
    in: the host's own loopback addresses from a container.
    """
    return _TABLE.format(name=name)


def drop_table(name: str) -> str:
    """Return what removes a root's table with all that is in it."""
    return f"delete table inet {name}\n"


def admit(name: str, bridge: Bridge) -> str:
    """Return what lets a network's containers speak among themselves and, unless it is internal, out."""
    return "".join(f"add element inet {name} {each}\n" for each in _elements(bridge))


def dismiss(name: str, bridge: Bridge) -> str:
    """Return what takes a network out of the rules; one that is not in them is no error."""
    return "".join(f"add element inet {name} {each}\ndelete element inet {name} {each}\n" for each in _elements(bridge))


def _elements(bridge: Bridge) -> Iterator[str]:
    yield f'bridges {{ "{bridge.name}" }}'
    yield f'same {{ "{bridge.name}" . "{bridge.name}" }}'
    if bridge.internal:
        yield f'closed {{ "{bridge.name}" }}'
    elif bridge.masquerade:
        yield f"translated4 {{ {bridge.subnet} }}"
        if bridge.subnet6:
            yield f"translated6 {{ {bridge.subnet6} }}"


Publication = tuple[ContainerPort, HostPort]
"""A port of a container, and the one of the host that leads there."""


def publish(name: str, publications: Iterable[Publication], addresses: Iterable[str]) -> str:
    """Return what lets ports of the host lead to a container with such ``addresses``; one that is taken is an error."""
    lines = _published(publications, tuple(addresses))
    return "".join(f"create element inet {name} {key} : {value} }}\n" for key, value in lines)


def unpublish(name: str, publications: Iterable[Publication], addresses: Iterable[str]) -> str:
    """Return what takes them away again.

    One that is not there is no error; one that leads to somebody else by now is, and all stay as they are.
    """
    lines = tuple(_published(publications, tuple(addresses)))
    return "".join(
        f"add element inet {name} {key} : {value} }}\ndelete element inet {name} {key} : {value} }}\n"
        for key, value in lines
    )


def _published(publications: Iterable[Publication], addresses: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for port, host in publications:
        outer = ipaddress.ip_address(host.address)
        for address in addresses:
            if ipaddress.ip_address(address).version != outer.version:
                continue
            value = f"{address} . {port.number}"
            if host.address == _ANY[outer.version]:
                yield f"any{outer.version} {{ {port.protocol} . {host.number}", value
            else:
                yield f"at{outer.version} {{ {port.protocol} . {host.address} . {host.number}", value


def answer_at(name: str, address: str, server: str, port: int) -> str:
    """Return what lets the container at ``address`` find a name server of its own at ``port`` of ``server``."""
    return f"add element inet {name} asked4 {{ {address} . {server} : {port} }}\n"


def answer_no_longer(name: str, address: str, server: str, port: int) -> str:
    """Return what takes that away again; safe to repeat."""
    element = f"inet {name} asked4 {{ {address} . {server} : {port} }}\n"
    return f"add element {element}delete element {element}"
