"""What the parts of a project have to have of each other: what is named exists, nothing waits for itself; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from lab.compose.model import DEFAULT_NETWORK, MountType
from lab.compose.references import references
from lab.compose.shapes import did_you_mean
from lab.compose.tree import Node, below

_SAME = (
    ("cpus", ("deploy", "resources", "limits", "cpus")),
    ("mem_limit", ("deploy", "resources", "limits", "memory")),
    ("mem_reservation", ("deploy", "resources", "reservations", "memory")),
    ("pids_limit", ("deploy", "resources", "limits", "pids")),
    ("scale", ("deploy", "replicas")),
)
_CONTENTS = ("file", "environment", "content", "external")


def check(tree: Node, active: Collection[str]) -> None:
    """See that a whole tree is sound, as far as the services that are active go.

    Raises:
        SpecError: it is not.
    """
    services = {name: node for name, node in tree.at("services").entries().items() if name in active}
    for name in services:
        _check_service(name, tree, active)
    _check_names(services)
    _check_waiting(services)
    for kind in ("networks", "volumes"):
        for key, node in tree.at(kind).entries().items():
            _check_external(below(kind, key), node)
    for kind in ("configs", "secrets"):
        for key, node in tree.at(kind).entries().items():
            _check_content(below(kind, key), node)


def _check_service(name: str, tree: Node, active: Collection[str]) -> None:
    node, where = tree.at("services").at(name), below("services", name)
    if not node.text("image") and node.get("build") is None:
        raise node.wrong(where, "has neither 'image' nor 'build'")
    build = node.at("build")
    if build.get("dockerfile") and build.get("dockerfile_inline"):
        raise build.wrong(f"{where}.build", "has both 'dockerfile' and 'dockerfile_inline'")
    if node.get("network_mode") and node.get("networks"):
        raise node.at("networks").wrong(f"{where}.networks", "cannot be said together with 'network_mode'")
    _check_once(where, node)
    _check_others(where, node, tree.at("services").entries(), active)
    for key, item, kind, wanted in _uses(node):
        known = tree.at(kind).entries()
        if wanted not in known:
            hint = did_you_mean(wanted, known) or f"declare it under '{kind}' at the top of the file"
            raise item.wrong(below(where, key), f"there is no {kind.removesuffix('s')} '{wanted}'", hint=hint)


def _check_once(where: str, node: Node) -> None:
    """See that what can be said in two places is said in one, or equally."""
    for key, path in _SAME:
        there: Node | None = node
        for part in path:
            there = there.get(part) if there is not None else None
        here = node.get(key)
        if here is not None and there is not None and here.value != there.value:
            raise here.wrong(below(where, key), f"says {here.text()}, and '{'.'.join(path)}' {there.text()}")


def _check_others(where: str, node: Node, services: Mapping[str, Node], active: Collection[str]) -> None:
    for name, reference in references(node).items():
        if name in active or not reference.dependency.required:
            continue
        if name not in services:
            hint = did_you_mean(name, services)
            raise reference.node.wrong(below(where, reference.key), f"there is no service '{name}'", hint=hint)
        profiles = ", ".join(services[name].texts("profiles"))
        raise reference.node.wrong(
            below(where, reference.key),
            f"the service '{name}' is in no active profile",
            hint=f"activate one of its profiles with --profile: {profiles}",
        )


def _uses(node: Node) -> Iterator[tuple[str, Node, str, str]]:
    """Give what a service refers to: under which key, where, what kind of object, and its key."""
    for name, each in node.at("networks").entries().items():
        if name != DEFAULT_NETWORK:
            yield "networks", each, "networks", name
    for index, each in enumerate(node.at("volumes").items()):
        if each.text("type") == MountType.VOLUME and each.text("source"):
            yield below("volumes", index), each, "volumes", each.text("source")
    for kind in ("configs", "secrets"):
        for index, each in enumerate(node.at(kind).items()):
            yield below(kind, index), each, kind, each.text("source")
    for index, each in enumerate(node.at("build").at("secrets").items()):
        yield below("build.secrets", index), each, "secrets", each.text("source")


def _check_names(services: Mapping[str, Node]) -> None:
    """See that no two services want one name for their containers."""
    owners: dict[str, str] = {}
    for name, node in services.items():
        wanted = node.text("container_name")
        if wanted in owners:
            where = f"services.{name}.container_name"
            raise node.at("container_name").wrong(where, f"'{wanted}' is what '{owners[wanted]}' is called")
        if wanted:
            owners[wanted] = name


def _check_waiting(services: Mapping[str, Node]) -> None:
    """See that no service waits for itself, by others."""
    settled: set[str] = set()
    for name in services:
        _follow(name, services, (), settled)


def _follow(name: str, services: Mapping[str, Node], chain: tuple[str, ...], settled: set[str]) -> None:
    if name in settled or name not in services:
        return
    for other, reference in references(services[name]).items():
        path = (*chain, name, other)
        if other in path[:-1]:
            circle = " -> ".join(path[path.index(other) :])
            raise reference.node.wrong(f"services.{name}.{reference.key}", f"services wait for each other: {circle}")
        _follow(other, services, path[:-1], settled)
    settled.add(name)


def _check_external(where: str, node: Node) -> None:
    if node.get("external") is None or node.at("external").value is False:
        return
    other = next((key for key in node.entries() if key not in ("external", "name")), None)
    if other is not None:
        raise node.at(other).wrong(below(where, other), "means nothing for what is external")


def _check_content(where: str, node: Node) -> None:
    said = [key for key in _CONTENTS if node.get(key) is not None and node.at(key).value is not False]
    if not said:
        raise node.wrong(where, f"needs one of: {', '.join(_CONTENTS)}")
    if len(said) > 1:
        raise node.at(said[1]).wrong(where, f"'{said[0]}' and '{said[1]}' cannot be said together")
