"""One file over another: mappings are merged, lists appended or matched by key; ``!reset`` and ``!override``; pure.

Trees come here in the uniform form of ``schema``.

Source: https://github.com/compose-spec/compose-spec/blob/main/13-merge.md.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterable, Mapping, Sequence

from lab.compose.model import SECRETS
from lab.compose.tree import Node, Tag

Path = tuple[str, ...]

_REPLACED: tuple[Path, ...] = (
    ("services", "*", "command"),
    ("services", "*", "entrypoint"),
    ("services", "*", "healthcheck", "test"),
    ("services", "*", "ulimits", "*"),
)
_LOGGING: Path = ("services", "*", "logging")


def merge(base: Node, over: Node, path: Path = ()) -> Node:
    """Return ``base`` with what ``over`` says added or put in its place; ``path`` is where in a file both stand."""
    return _merged(base, over, path) or base.having({})


def settle(node: Node, path: Path = ()) -> Node:
    """Return a tree without what its tags remove, and with the last of those items that stand for the same thing."""
    return merge(node.having({}), node, path)


def _merged(base: Node | None, over: Node, path: Path) -> Node | None:
    """Return what two values come to, None for nothing."""
    if over.tag == Tag.RESET:
        return None
    if any(_matches(path, pattern) for pattern in _REPLACED):
        return over
    if base is None or over.tag == Tag.OVERRIDE:
        base = over.having(None)
    if isinstance(over.value, Mapping):
        return over.having(_mappings(base.entries(), over.entries(), path))
    if isinstance(over.value, Sequence) and not isinstance(over.value, str):
        return over.having(_lists([*base.items(), *over.items()], path))
    return over


def _mappings(base: Mapping[str, Node], over: Mapping[str, Node], path: Path) -> dict[str, Node]:
    if _matches(path, _LOGGING) and _drivers_differ(base, over):
        base = {}
    found = dict(base)
    for key, value in over.items():
        merged = _merged(base.get(key), value, (*path, key))
        if merged is None:
            found.pop(key, None)
        else:
            found[key] = merged
    return found


def _drivers_differ(base: Mapping[str, Node], over: Mapping[str, Node]) -> bool:
    drivers = {mapping["driver"].value for mapping in (base, over) if "driver" in mapping}
    return len(drivers) > 1


def _lists(items: Iterable[Node], path: Path) -> list[Node]:
    """Return the items, each in the place of the first and with the value of the last that has the same key."""
    key = next((key for pattern, key in _KEYS.items() if _matches(path, pattern)), _own_key)
    found: dict[object, Node] = {}
    for item in items:
        if item.tag != Tag.RESET:
            found[key(item)] = item
    return list(found.values())


def _matches(path: Path, pattern: Path) -> bool:
    return len(path) == len(pattern) and all(want in ("*", have) for have, want in zip(path, pattern, strict=True))


def _own_key(item: Node) -> object:
    """Return a text's own value; what is no scalar is like nothing else."""
    return item.value if isinstance(item.value, bool | int | float | str) else id(item)


def _port(item: Node) -> object:
    return item.text("host_ip"), item.text("published"), item.text("target"), item.text("protocol") or "tcp"


def _target(item: Node) -> object:
    return posixpath.normpath(item.text("target"))


def _config(item: Node) -> object:
    return posixpath.join("/", item.text("target") or item.text("source"))


def _secret(item: Node) -> object:
    return posixpath.join(SECRETS, item.text("target") or item.text("source"))


def _path(item: Node) -> object:
    return item.place.join(item.text("path"))


def _subnet(item: Node) -> object:
    return item.text("subnet") or id(item)


_KEYS: Mapping[Path, Callable[[Node], object]] = {
    ("services", "*", "ports"): _port,
    ("services", "*", "volumes"): _target,
    ("services", "*", "configs"): _config,
    ("services", "*", "secrets"): _secret,
    ("services", "*", "build", "secrets"): _secret,
    ("services", "*", "devices"): lambda item: item.text("target") or item.text("source"),
    ("services", "*", "env_file"): _path,
    ("services", "*", "develop", "watch"): _path,
    ("networks", "*", "ipam", "config"): _subnet,
}
