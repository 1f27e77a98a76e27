"""`lab system`: what the lab holds, what happens in it, and what killed processes have left; `lab info`, `version`."""

from __future__ import annotations

from lab.cli.verbs import lazy

_EVENTS = "lab.cli.system_events"
_FACTS = "lab.cli.system_facts"
_USAGE = "lab.cli.system_usage"

VERBS = {
    "df": lazy(_USAGE, "df", text="show what takes how much of the disk", example="lab system df -v"),
    "events": lazy(
        _EVENTS, "events", text="show what happens to containers and images", example="lab events --filter event=die"
    ),
    "info": lazy(_FACTS, "info", text="show what this installation is and has", example="lab info --format json"),
    "version": lazy(_FACTS, "version", text="show which versions these are", example="lab version"),
    "prune": lazy(_USAGE, "prune", text="remove all that no container uses", example="lab system prune -f"),
    "check": lazy(
        "lab.cli.system_check",
        "check",
        text="find what killed processes have left, and remove it",
        example="lab system check",
    ),
    "inspect": lazy(
        "lab.cli.container_show_inspect",
        "inspect",
        text="show what is known of containers and images",
        example="lab inspect -f '{{.Id}}' web",
    ),
}
