"""Searching a registry: by docker's own API where there is one, else by the names in its catalogue.

Source: https://docs.docker.com/reference/api/engine/ (ImageSearch), which hands on ``/v1/search`` of the registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from lab.container.image.reference import DEFAULT_REGISTRY
from lab.container.registry.client import pages
from lab.container.registry.connection import Registry
from lab.container.registry.hosts import DEFAULT_INDEX, DEFAULT_SERVER, Endpoint, endpoint
from lab.container.registry.session import Session
from lab.errors import RegistryError

_ANSWER_BYTES_MAX = 4 * 1024 * 1024
_CATALOGUE = ("registry:catalog:*",)
_HAS_NONE = frozenset((400, 401, 403, 404, 405))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A repository that was found."""

    name: str
    description: str = ""
    stars: int = 0
    is_official: bool = False
    is_automated: bool = False


def search(session: Session, registry: str, term: str, *, limit: int) -> tuple[Found, ...]:
    """Return at most ``limit`` repositories that a registry knows for ``term``, in its order.

    Names are as the registry gives them; those from a catalogue are whole, with the registry's host.

    Raises:
        RegistryError: it cannot be searched.
    """
    if registry == DEFAULT_REGISTRY:
        at = Endpoint(host=DEFAULT_INDEX, server=DEFAULT_SERVER)
        return _by_index(session.registry(at), term, limit)
    found = session.registry(endpoint(registry, session.settings))
    try:
        return _by_index(found, term, limit)
    except RegistryError as error:
        if error.status not in _HAS_NONE:
            raise
    try:
        return tuple(_by_catalogue(found, term, limit))
    except RegistryError as error:
        if error.status not in _HAS_NONE:
            raise
        raise RegistryError(
            f"{registry} can neither be searched nor lists what it has: {error}", status=error.status, hint=error.hint
        ) from error


def _by_index(registry: Registry, term: str, limit: int) -> tuple[Found, ...]:
    query = urlencode({"q": term, "n": limit})
    what = f"search {registry.host}"
    with registry.ask("GET", f"/v1/search?{query}", what=what) as answer:
        data = answer.body(_ANSWER_BYTES_MAX)
    try:
        document: object = json.loads(data)
    except (ValueError, RecursionError):
        document = None
    results = document.get("results") if isinstance(document, dict) else None
    if not isinstance(results, list):
        raise RegistryError(f"{what}: it does not answer as docker's registry does", status=404)
    return tuple(_found(entry) for entry in results if isinstance(entry, dict))[:limit]


def _found(entry: dict[str, object]) -> Found:
    stars = entry.get("star_count")
    return Found(
        name=str(entry.get("name") or ""),
        description=str(entry.get("description") or ""),
        stars=stars if isinstance(stars, int) else 0,
        is_official=entry.get("is_official") is True,
        is_automated=entry.get("is_automated") is True,
    )


def _by_catalogue(registry: Registry, term: str, limit: int) -> Iterator[Found]:
    left = limit
    for page in pages(registry, "/v2/_catalog", f"list what {registry.host} has", _CATALOGUE):
        names = page.get("repositories")
        for name in names if isinstance(names, list) else []:
            if term.lower() in str(name).lower() and left:
                left -= 1
                yield Found(name=f"{registry.host}/{name}")
        if not left:
            return
