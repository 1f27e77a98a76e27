"""`lab search`: docker's table of what a registry has."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lab.cli import gotemplate, output
from lab.cli.registry_pull import add_insecure
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lab.container.registry.search import Found

_LIMIT, _LIMIT_MAX = 25, 100
_DESCRIPTION_WIDTH = 45
_COLUMNS = ("{{.Name}}", "{{.Description}}", "{{.StarCount}}", "{{.IsOfficial}}")
_HEADINGS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "StarCount": "STARS",
    "IsOfficial": "OFFICIAL",
    "IsAutomated": "AUTOMATED",
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``search``."""
    parser.add_argument("term", metavar="TERM", help="what to search for; HOST/TERM for another registry than docker's")
    parser.add_argument(
        "-f",
        "--filter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="stars=N, is-official=BOOL, is-automated=BOOL",
    )
    parser.add_argument("--format", default="", metavar="FORMAT", help="'json' or TEMPLATE")
    parser.add_argument(
        "--limit", type=int, default=_LIMIT, metavar="N", help="how many at most (default: %(default)s)"
    )
    parser.add_argument("--no-trunc", action="store_true", help="show descriptions whole")
    add_insecure(parser)


def search(arguments: argparse.Namespace, paths: Paths) -> int:
    """Search a registry."""
    from lab.container.registry.search import search as search_registry
    from lab.container.registry.session import session

    if not 0 <= arguments.limit <= _LIMIT_MAX:
        raise SpecError(f"limit {arguments.limit} is outside the range of [1, {_LIMIT_MAX}]")
    holds = [_condition(text) for text in arguments.filter]
    registry, term = _divided(arguments.term)
    with session(paths, insecure=(registry,) if arguments.insecure else ()) as registries:
        found = search_registry(registries, registry, term, limit=arguments.limit or _LIMIT)
    rows = _rows((each for each in found if all(hold(each) for hold in holds)), no_trunc=arguments.no_trunc)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=gotemplate.table(_COLUMNS)))
    return EXIT_OK


def _divided(text: str) -> tuple[str, str]:
    """Return the registry and the term: what is before the first "/" is a host if it looks like one."""
    from lab.container.image.reference import DEFAULT_REGISTRY

    first, slash, rest = text.partition("/")
    if slash and (any(char in first for char in ".:") or first == "localhost"):
        return (DEFAULT_REGISTRY if first in ("docker.io", "index.docker.io") else first), rest
    return DEFAULT_REGISTRY, text


def _condition(text: str) -> Callable[[Found], bool]:
    name, _, value = text.partition("=")
    if name == "stars" and value.isascii() and value.isdigit():
        return lambda each: each.stars >= int(value)
    if name == "is-official" and value in _TRUTH:
        return lambda each: each.is_official is _TRUTH[value]
    if name == "is-automated" and value in _TRUTH:
        return lambda each: each.is_automated is _TRUTH[value]
    raise SpecError(f"invalid filter '{text}'", hint="stars=N, is-official=BOOL, is-automated=BOOL")


def _rows(found: Iterable[Found], *, no_trunc: bool) -> list[dict[str, object]]:
    return [
        {
            "Name": each.name,
            "Description": _description(each.description, no_trunc=no_trunc),
            "StarCount": str(each.stars),
            "IsOfficial": "[OK]" if each.is_official else "",
            "IsAutomated": "[OK]" if each.is_automated else "",
        }
        for each in found
    ]


def _description(text: str, *, no_trunc: bool) -> str:
    plain = " ".join(text.split())
    if no_trunc or len(plain) <= _DESCRIPTION_WIDTH:
        return plain
    return f"{plain[: _DESCRIPTION_WIDTH - 1]}…"
