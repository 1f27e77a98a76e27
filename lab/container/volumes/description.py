"""A volume as docker's ``volume inspect`` tells it, and which ones a list or a prune is about; pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from lab.container import labels
from lab.container.log_file import timestamp
from lab.container.volumes.model import DRIVER, Volume
from lab.errors import ContainerError
from lab.units import NS_PER_S

LISTED = ("dangling", "driver", "label", "name")
PRUNED = ("all", "label", "label!")
Condition = Callable[[Volume], bool]
_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


def document(volume: Volume, mountpoint: str) -> dict[str, object]:
    """Return docker's JSON object for a volume, its fields in docker's order."""
    return {
        "CreatedAt": timestamp(volume.created_ns // NS_PER_S * NS_PER_S).replace(".000000000", ""),
        "Driver": DRIVER,
        "Labels": dict(sorted(volume.labels.items())) or None,
        "Mountpoint": mountpoint,
        "Name": volume.name,
        "Options": dict(sorted(volume.options.items())) or None,
        "Scope": "local",
    }


def conditions(filters: Mapping[str, Sequence[str]], used: Collection[str]) -> tuple[Condition, ...]:
    """Return what has to hold of a volume that is listed, all of it; ``used`` are names.

    Raises:
        ContainerError: a value is none.
    """
    makers: dict[str, Callable[[str], Condition]] = {
        "dangling": lambda value: _dangling(value, used),
        "driver": lambda value: lambda _: value == DRIVER,
        "label": has_label,
        "label!": lambda text: lambda volume: not has_label(text)(volume),
        "name": lambda value: lambda volume: value in volume.name,
        "all": lambda _: lambda _: True,
    }
    return tuple(_any([makers[name](value) for value in values], name) for name, values in filters.items())


def _any(holds: list[Condition], name: str) -> Condition:
    many = all if name.startswith("label") else any
    return lambda volume: many(condition(volume) for condition in holds)


def has_label(text: str) -> Condition:
    """Return whether a volume has the label "KEY", or "KEY=VALUE"."""
    return lambda volume: labels.hold(volume.labels, text)


def _dangling(value: str, used: Collection[str]) -> Condition:
    if value not in _TRUTHS:
        raise ContainerError(f"invalid filter 'dangling={value}'", hint="true or false")
    return lambda volume: (volume.name not in used) == _TRUTHS[value]


def takes_all(filters: Mapping[str, Sequence[str]], given: bool) -> bool:
    """Return whether a prune is about named volumes as well; "all" of the filters decides, else ``given``."""
    values = filters.get("all", ())
    return _TRUTHS.get(values[-1], False) if values else given
