"""`lab network`: the networks of containers, in docker's words."""

from __future__ import annotations

from lab.cli.verbs import lazy

_CHANGE = "lab.cli.network_change"
_SHOW = "lab.cli.network_show"

VERBS = {
    "create": lazy(_CHANGE, "create", text="make a network", example="lab network create --subnet 10.1.2.0/24 shop"),
    "connect": lazy(
        _CHANGE,
        "connect",
        text="connect a container with a network",
        example="lab network connect --alias db shop mariadb",
    ),
    "disconnect": lazy(
        _CHANGE, "disconnect", text="take a container off a network", example="lab network disconnect shop mariadb"
    ),
    "inspect": lazy(
        _SHOW,
        "inspect",
        text="show what is known of networks",
        example="lab network inspect -f '{{.IPAM.Config}}' shop",
    ),
    "ls": lazy(_SHOW, "ls", text="list networks", example="lab network ls --filter type=custom", aliases=("list",)),
    "prune": lazy(_CHANGE, "prune", text="remove all networks that no container uses", example="lab network prune -f"),
    "rm": lazy(_CHANGE, "rm", text="remove networks", example="lab network rm shop", aliases=("remove",)),
}
