"""What a container of an ordinary user is: its root is that user, and nothing that needs the host's root is there.

What it cannot do, and why:

- limits: an ordinary user has no cgroup of his own unless one is delegated to him, which nobody has done here;
- a network of its own that leads anywhere: connecting it to a bridge is the host's root's to do (none and host work);
- more than one user inside: mapping further ids needs newuidmap and ranges that root has set aside;
- devices of the host: a user namespace opens none that its user could not open outside;
- pause: freezing is a cgroup's to do.
"""

from __future__ import annotations

from dataclasses import replace

from lab.container.defaults import ContainerConfig, ContainerNetwork
from lab.container.options import users
from lab.container.spec.runtime import Resources
from lab.errors import UnavailableError


def reduced(config: ContainerConfig, uid: int, gid: int) -> ContainerConfig:
    """Return the container that user ``uid`` of group ``gid`` gets of what is asked for.

    Raises:
        UnavailableError: he cannot have it; the reason says why.
    """
    if config.resources != Resources():
        raise UnavailableError(
            "limits need a cgroup, and an ordinary user has none of his own", hint="leave the limit out, or use sudo"
        )
    if config.network == ContainerNetwork.BRIDGE:
        raise UnavailableError(
            "a network that is connected to the host's needs root", hint="use --network none or host, or sudo"
        )
    if config.devices:
        raise UnavailableError("devices of the host need root", hint="leave --device and --privileged out, or use sudo")
    mapped = users.single(uid, gid)
    return replace(config, rootless=True, uid_mappings=mapped.uid_mappings, gid_mappings=mapped.gid_mappings)
