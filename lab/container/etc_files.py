"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: their content, and their place in its bundle; pure.

They are files of the host, beside the container's layer and bound over whatever the image has, so that the engine can
change them while the container runs and nothing of them gets into an image that is made of it.

Source: docs.docker.com/engine/network, "DNS services" and "Custom hosts"; man hosts(5), resolv.conf(5).
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lab.container.spec.runtime import Mount
from lab.errors import SpecError

HOST_GATEWAY = "host-gateway"
"""As the address of --add-host: the host as the container reaches it."""

HOST_NAME = "host.docker.internal"
"""What every container with a network calls the host."""

FALLBACK_NAMESERVERS = ("8.8.8.8", "8.8.4.4")
"""docker's, for containers of a network when the host has none but its own loopback."""

_BASIC_HOSTS = (
    ("127.0.0.1", "localhost"),
    ("::1", "localhost ip6-localhost ip6-loopback"),
    ("fe00::0", "ip6-localnet"),
    ("ff00::0", "ip6-mcastprefix"),
    ("ff02::1", "ip6-allnodes"),
    ("ff02::2", "ip6-allrouters"),
)
_NAMES = ("hostname", "hosts", "resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverConfig:
    """What resolv.conf says: addresses, domains to search, options."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def hostname(name: str) -> str:
    """Return the content of /etc/hostname."""
    return f"{name}\n"


def hosts(addresses: Iterable[str], names: Iterable[str], extra: Iterable[tuple[str, str]] = ()) -> str:
    """Return the content of /etc/hosts: the usual lines, ``extra`` (name, address) as given, then the container's own.

    Its ``names`` come from ``own_names``; each of its ``addresses`` has them all.
    """
    own = " ".join(names)
    lines = [*_BASIC_HOSTS, *((address, name) for name, address in extra), *((each, own) for each in addresses)]
    return "".join(f"{address}\t{name}\n" for address, name in lines)


def hosts_of_host(text: str, extra: Iterable[tuple[str, str]]) -> str:
    """Return the content of /etc/hosts on the host's network: the host's ``text``, and ``extra`` (name, address)."""
    return text + "".join(f"{address}\t{name}\n" for name, address in extra)


def own_names(host_name: str, domain_name: str, aliases: Iterable[str] = ()) -> tuple[str, ...]:
    """Return what a container calls itself in its /etc/hosts."""
    if "." in host_name:
        return (host_name, host_name.partition(".")[0], *aliases)
    return (f"{host_name}.{domain_name}", host_name, *aliases) if domain_name else (host_name, *aliases)


def extra_host(text: str, *, gateway: str) -> tuple[str, str]:
    """Return --add-host "NAME:ADDRESS" or "NAME=ADDRESS" as (name, address); "host-gateway" becomes ``gateway``.

    Raises:
        SpecError: it is none.
    """
    separator = "=" if "=" in text else ":"
    name, found, address = text.partition(separator)
    if not name or not found:
        raise SpecError(f'bad format for add-host: "{text}"')
    if address == HOST_GATEWAY:
        return name, gateway
    plain = address.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        raise SpecError(f'invalid IP address in add-host: "{address}"') from None
    return name, plain


def parse_resolver(text: str) -> ResolverConfig:
    """Return what a resolv.conf says; what resolvers would not understand is left out."""
    found: dict[str, list[str]] = {"nameserver": [], "search": [], "domain": [], "options": []}
    for line in text.splitlines():
        word, *rest = line.split("#")[0].split(";")[0].split() or [""]
        if word == "search":
            found["search"] = rest  # the last one counts
        elif word in found:
            found[word] += rest
    return ResolverConfig(
        nameservers=tuple(found["nameserver"]),
        search=tuple(found["search"] or found["domain"][:1]),
        options=tuple(found["options"]),
    )


def resolver_for_network(host: ResolverConfig, wanted: ResolverConfig) -> ResolverConfig:
    """Return what a container with a network of its own asks: what is ``wanted``, else what the host asks.

    A server on the host's loopback cannot be reached from there, so such are left out, and docker's fallback taken
    when none is left. A search domain "." is none at all.
    """
    reachable = tuple(server for server in host.nameservers if not _is_loopback(server)) or FALLBACK_NAMESERVERS
    search = wanted.search or host.search
    return ResolverConfig(
        nameservers=wanted.nameservers or reachable,
        search=() if "." in search else search,
        options=wanted.options or host.options,
    )


def resolver_for_host(host: ResolverConfig, wanted: ResolverConfig) -> ResolverConfig:
    """Return what a container on the host's network asks: as the host, unless something else is ``wanted``."""
    return ResolverConfig(
        nameservers=wanted.nameservers or host.nameservers,
        search=wanted.search or host.search,
        options=wanted.options or host.options,
    )


def _is_loopback(server: str) -> bool:
    try:
        return ipaddress.ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return True


def resolv_conf(config: ResolverConfig) -> str:
    """Return the content of /etc/resolv.conf."""
    lines = [f"nameserver {server}" for server in config.nameservers]
    lines += [f"search {' '.join(config.search)}"] if config.search else []
    lines += [f"options {' '.join(config.options)}"] if config.options else []
    return "".join(f"{line}\n" for line in lines)


def paths(bundle: str) -> Mapping[str, str]:
    """Return where in a bundle the three files are, by name."""
    return {name: os.path.join(bundle, name) for name in _NAMES}


def mounts(bundle: str, taken: Iterable[str] = ()) -> tuple[Mount, ...]:
    """Return the mounts that show them to the container, but for those whose destination the user has ``taken``."""
    covered = set(taken)
    pairs = ((f"/etc/{name}", path) for name, path in paths(bundle).items())
    return tuple(
        Mount(destination=destination, type="bind", source=source, options=("bind", "rw"))
        for destination, source in pairs
        if destination not in covered
    )
