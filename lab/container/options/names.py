"""--hostname, --domainname, --add-host, --dns…: what a container's own three files of /etc say."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace

from lab.container import etc_files
from lab.container.defaults import NamespaceMode
from lab.container.options.run import RunOptions

_HOSTS = "/etc/hosts"
_RESOLV_CONF = "/etc/resolv.conf"


def etc_content(
    options: RunOptions,
    container_id: str,
    *,
    read: Callable[[str], str],
    addresses: tuple[str, ...] = (),
    gateway: str = "",
    nameserver: str = "",
    links: tuple[tuple[str, str], ...] = (),
) -> Mapping[str, str]:
    """Return the text of each of ``etc_files.paths`` by name; ``read`` gives the host's own, "" where there is none.

    ``addresses`` are the container's own and ``gateway`` the host's on its networks, once it has any; ``nameserver``
    knows the names on them, and asks the wanted name servers itself; ``links`` are names and addresses of others.

    Raises:
        SpecError: an added host is none.
    """
    on_host = options.network == NamespaceMode.HOST
    host_name = options.hostname or (os.uname().nodename if on_host else container_id[:12])
    extra = [etc_files.extra_host(text, gateway=gateway) for text in options.add_hosts]
    if gateway and not on_host and not any(name == etc_files.HOST_NAME for name, _ in extra):
        extra.append((etc_files.HOST_NAME, gateway))
    extra += links
    own = etc_files.own_names(host_name, options.domainname)
    wanted = etc_files.ResolverConfig(nameservers=options.dns, search=options.dns_search, options=options.dns_options)
    return {
        "hosts": etc_files.hosts_of_host(read(_HOSTS), extra) if on_host else etc_files.hosts(addresses, own, extra),
        "hostname": etc_files.hostname(host_name),
        "resolv.conf": etc_files.resolv_conf(_resolver(read(_RESOLV_CONF), wanted, nameserver, on_host=on_host)),
    }


def _resolver(
    text: str, wanted: etc_files.ResolverConfig, nameserver: str, *, on_host: bool
) -> etc_files.ResolverConfig:
    host = etc_files.parse_resolver(text)
    if on_host:
        return etc_files.resolver_for_host(host, wanted)
    found = etc_files.resolver_for_network(host, wanted)
    if not nameserver:
        return found
    options = (
        found.options if any(option.startswith("ndots:") for option in found.options) else (*found.options, "ndots:0")
    )
    return replace(found, nameservers=(nameserver,), options=options)
