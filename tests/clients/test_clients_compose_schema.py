"""Our table of keys against the schema that docker-compose 1.29 installs: what that takes, we take."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any  # a JSON schema is what it is

import pytest

from lab.compose import schema
from lab.compose.shapes import Expanded, ListOf, MapOf, Refused, Section, Short

SCHEMA = Path("/usr/lib/python3/dist-packages/compose/config/compose_spec.json")

pytestmark = pytest.mark.needs("docker-compose")


def _theirs(document: Mapping[str, Any], node: Any, path: str = "") -> Iterator[str]:
    """Give the paths of all keys that a JSON schema names; "*" is any key."""
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/definitions/")
        node = document["definitions"][name.removeprefix("#")]
    for choice in ("oneOf", "anyOf", "allOf"):
        for each in node.get(choice, ()):
            yield from _theirs(document, each, path)
    for key, value in node.get("properties", {}).items():
        yield f"{path}.{key}".lstrip(".")
        yield from _theirs(document, value, f"{path}.{key}")
    for pattern, value in node.get("patternProperties", {}).items():
        if pattern != "^x-":
            yield from _theirs(document, value, f"{path}.*")
    if isinstance(node.get("items"), Mapping):
        yield from _theirs(document, node["items"], path)


def _ours(shape: object, path: str = "") -> Iterator[str]:
    match shape:
        case Section():
            for key, value in shape.keys.items():
                yield f"{path}.{key}".lstrip(".")
                yield from _ours(value, f"{path}.{key}")
        case MapOf():
            yield from _ours(shape.value, f"{path}.*")
        case ListOf():
            yield from _ours(shape.item, path)
        case Expanded() | Short():
            yield from _ours(shape.long, path)
        case schema.External():
            yield from _ours(schema.EXTERNAL_NAME, path)


def _document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(SCHEMA.read_text())
    return found


# What we take unseen or refuse as a whole, so that what is below it needs no keys of ours.
_WHOLE = (
    "services.*.credential_spec.",
    "services.*.deploy.placement.preferences.",
    "services.*.deploy.resources.reservations.generic_resources.",
    "services.*.deploy.resources.reservations.devices.",
)


def test_every_key_of_docker_compose_is_known() -> None:
    ours = set(_ours(schema.FILE))
    theirs = {path for path in _theirs(_document(), _document()) if not path.startswith(_WHOLE)}
    assert len(theirs) > 200
    assert theirs - ours == set()


def test_what_we_refuse_is_nothing_that_docker_compose_could_do_without_a_swarm() -> None:
    refused = {path for path in set(_theirs(_document(), _document())) if isinstance(_at(path), Refused)}
    assert refused == {
        "configs.*.template_driver",
        "secrets.*.driver",
        "secrets.*.driver_opts",
        "secrets.*.template_driver",
    }


def _at(path: str) -> object:
    shape: object = schema.FILE
    for part in path.split("."):
        while isinstance(shape, Expanded | Short | ListOf):
            shape = shape.item if isinstance(shape, ListOf) else shape.long
        if isinstance(shape, MapOf):
            shape = shape.value
        elif isinstance(shape, Section):
            shape = shape.keys.get(part)
    return shape
