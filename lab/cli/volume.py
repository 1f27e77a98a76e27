"""`lab volume`: data that outlives containers, in docker's words and some of the lab's own."""

from __future__ import annotations

from lab.cli.verbs import lazy

_CHANGE = "lab.cli.volume_change"
_SHOW = "lab.cli.volume_show"
_TRANSFER = "lab.cli.volume_transfer"

VERBS = {
    "create": lazy(_CHANGE, "create", text="make a volume", example="lab volume create --label of=shop data"),
    "clone": lazy(
        _TRANSFER, "clone", text="copy a volume with all that is in it", example="lab volume clone data tried"
    ),
    "export": lazy(
        _TRANSFER, "export", text="write a volume's content as a tar", example="lab volume export -o data.tar data"
    ),
    "import": lazy(_TRANSFER, "import_tar", text="make a volume of a tar", example="lab volume import data data.tar"),
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
