"""--hostname, --domainname, --add-host, --dns…: what a container's own three files of /etc say."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from lab.container import etc_files
from lab.container.defaults import NamespaceMode
from lab.container.options.run import RunOptions

_HOSTS = "/etc/hosts"
_RESOLV_CONF = "/etc/resolv.conf"


def etc_content(
    options: RunOptions, container_id: str, *, read: Callable[[str], str], address: str = "", gateway: str = ""
) -> Mapping[str, str]:
    """Return the text of each of ``etc_files.paths`` by name; ``read`` gives the host's own, "" where there is none.

    ``address`` and ``gateway`` are the container's place on its network once it has one.

    Raises:
        SpecError: an added host is none.
    """
    on_host = options.network == NamespaceMode.HOST
    host_name = options.hostname or (os.uname().nodename if on_host else container_id[:12])
    extra = [etc_files.extra_host(text, gateway=gateway) for text in options.add_hosts]
    own = etc_files.own_names(host_name, options.domainname)
    wanted = etc_files.ResolverConfig(nameservers=options.dns, search=options.dns_search, options=options.dns_options)
    resolver = etc_files.resolver_for_host if on_host else etc_files.resolver_for_network
    return {
        "hosts": etc_files.hosts_of_host(read(_HOSTS), extra)
        if on_host
        else etc_files.hosts((address,) if address else (), own, extra),
        "hostname": etc_files.hostname(host_name),
        "resolv.conf": etc_files.resolv_conf(resolver(etc_files.parse_resolver(read(_RESOLV_CONF)), wanted)),
    }
