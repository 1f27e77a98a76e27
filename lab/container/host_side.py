"""What the spawner does for a child that comes up, from the host's side: its links, and who its users are outside.

The child carries its plan out meanwhile, and waits where it needs one of these. A lean file: the spawner imports it.
"""

from __future__ import annotations

import os

from lab.container.child import Child, give_up
from lab.container.network import fastpath

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.container import user_namespace
    from lab.container.network.model import AttachmentFields
    from lab.linux import sockets


def map_users(child: Child, users: user_namespace.Setup, channel: sockets.Socket, stdio: tuple[int, ...]) -> None:
    """Set a child's user namespace up, or give the child up; the channel is closed."""
    from lab.container import user_namespace  # few have users of their own

    with channel:
        try:
            user_namespace.prepare(child.pid, users, channel, stdio)
        except OSError as error:  # it could not even be told what has failed
            give_up(child, "map_users", error)


def connect(child: Child, network: tuple[AttachmentFields, ...], go: int) -> None:
    """Make the host's side of a child's links, and tell it the rest over ``go``, or give the child up."""
    try:
        netns = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            attachments = tuple(map(fastpath.PlainAttachment, network))
            for attachment in attachments:
                fastpath.host_side(attachment, netns)
            os.write(go, fastpath.exchanges(attachments))
        finally:
            os.close(netns)
    except OSError as error:
        give_up(child, "connect_network", error)
