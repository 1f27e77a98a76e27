"""Which other services a service of the tree refers to, and how; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lab.compose.model import Condition, Dependency, Link
from lab.compose.tree import Node

_SERVICE = "service:"
_CONTAINER = "container:"
_SHARED = ("network_mode", "ipc", "pid", "uts", "cgroup")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """That a service names another one: where it does, by key path below the service, and what it needs of it."""

    node: Node
    key: str
    dependency: Dependency


def references(service: Node) -> Mapping[str, Reference]:
    """Return the services that one needs; what ``depends_on`` says counts more than what other keys imply."""
    found: dict[str, Reference] = {}
    for name, reference in (*_said(service), *_implied(service)):
        found.setdefault(name, reference)
    return found


def links(service: Node) -> tuple[Link, ...]:
    """Return the links of a service."""
    return tuple(_link(item.text()) for item in service.at("links").items())


def _link(text: str) -> Link:
    name, _, alias = text.partition(":")
    return Link(service=name, alias=alias or name)


def _said(service: Node) -> Iterator[tuple[str, Reference]]:
    for name, node in service.at("depends_on").entries().items():
        dependency = Dependency(
            condition=Condition(node.text("condition") or Condition.STARTED),
            required=node.truth("required", default=True),
            restart=node.truth("restart"),
        )
        yield name, Reference(node=node, key="depends_on", dependency=dependency)


def _implied(service: Node) -> Iterator[tuple[str, Reference]]:
    for item in service.at("links").items():
        yield _link(item.text()).service, Reference(node=item, key="links", dependency=Dependency(restart=True))
    for key in _SHARED:
        node = service.get(key)
        if node is not None and node.text().startswith(_SERVICE):
            reference = Reference(node=node, key=key, dependency=Dependency(restart=True))
            yield node.text().removeprefix(_SERVICE), reference
    for item in service.at("volumes_from").items():
        if not item.text().startswith(_CONTAINER):
            reference = Reference(node=item, key="volumes_from", dependency=Dependency())
            yield item.text().partition(":")[0], reference
