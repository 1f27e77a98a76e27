"""`lab volume`: data that outlives containers, in docker's words and some of the lab's own."""

from __future__ import annotations

from lab.cli.verbs import lazy

_CHANGE = "lab.cli.volume_change"
_SHOW = "lab.cli.volume_show"

VERBS = {
    "create": lazy(_CHANGE, "create", text="make a volume", example="lab volume create --label of=shop data"),
    "inspect": lazy(
        _SHOW,
        "inspect",
        text="show what is known of volumes",
        example="lab volume inspect -f '{{.Mountpoint}}' data",
    ),
    "ls": lazy(_SHOW, "ls", text="list volumes", example="lab volume ls --filter dangling=true", aliases=("list",)),
    "prune": lazy(_CHANGE, "prune", text="remove volumes that no container has", example="lab volume prune -af"),
    "rename": lazy(
        _CHANGE, "rename", text="give a volume that no container has another name", example="lab volume rename data old"
    ),
    "rm": lazy(_CHANGE, "rm", text="remove volumes", example="lab volume rm data", aliases=("remove",)),
}
