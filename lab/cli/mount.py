"""`lab mount`: what is mounted in a container, changed while it runs; no verb of docker's."""

from __future__ import annotations

from lab.cli.verbs import lazy

_CHANGE = "lab.cli.mount_change"

VERBS = {
    "add": lazy(
        _CHANGE,
        "add",
        text="mount volumes, directories or memory in a container",
        example="lab mount add web -v data:/data:ro",
    ),
    "rm": lazy(
        _CHANGE,
        "rm",
        text="unmount what was asked for in a container",
        example="lab mount rm web /data",
        aliases=("remove",),
    ),
}
