"""Files of variables: ``.env``, and those that services name with ``env_file``; pure.

A line is ``NAME=VALUE``, ``NAME: VALUE`` or, for the value that the name has outside, ``NAME``. Within single quotes a
value is as it stands, within double ones ``\\n`` and its like and variables are replaced; both may span lines.

Source: https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation, "Env-file syntax".
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping

from lab.compose.interpolation import InterpolationError, Variables, interpolate
from lab.errors import SpecError

_LINE = re.compile(
    r"""
    (?:export\s+)?
    (?P<name>[A-Za-z_][A-Za-z0-9_.\[\]-]*)[ \t]*
    (?:[=:][ \t]*(?P<value>
        '(?P<single>(?:\\'|[^'])*)' |
        "(?P<double>(?:\\.|[^"\\])*)" |
        (?P<bare>(?!['"])[^\n]*)
    ))?
    [ \t]*(?:\#[^\n]*)?(?:\n|\Z)
    """,
    re.VERBOSE | re.DOTALL,
)
_IDLE = re.compile(r"[ \t]*(?:\#[^\n]*)?(?:\n|\Z)|[ \t]+")
_COMMENT = re.compile(r"(?:^|\s+)#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "$": "$$"}


def parse(text: str, *, file: str, outside: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return the variables of a file; one that is only named has its value outside, None where it has none there.

    A variable in a value stands for its value outside, else for that of an earlier line.

    Raises:
        SpecError: a line is none of a file of variables.
    """
    found: dict[str, str | None] = {}
    inside: dict[str, str] = {}
    known = ChainMap(dict(outside), inside)
    for line, match in _lines(text.removeprefix("\ufeff").replace("\r\n", "\n"), file):
        try:
            value = _value(match, known)
        except InterpolationError as error:
            raise SpecError(str(error), path=file, line=line) from None
        found[match["name"]] = value
        inside[match["name"]] = value or ""
    return found


def parse_raw(text: str, *, outside: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return the variables of a file of ``format: raw``, whose values are as they stand: `docker run --env-file`'s."""
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        name, equals, value = line.lstrip().partition("=")
        if name and not name.startswith("#"):
            found[name.rstrip()] = value if equals else outside.get(name.rstrip())
    return found


def _lines(text: str, file: str) -> Iterator[tuple[int, re.Match[str]]]:
    at = 0
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        idle = _IDLE.match(text, at)
        if idle and idle.end() > at:
            at = idle.end()
            continue
        match = _LINE.match(text, at)
        if match is None:
            wrong = text[at:].split("\n", 1)[0]
            raise SpecError(f"not a line of variables: {wrong!r}", path=file, line=line, hint="write NAME=VALUE")
        yield line, match
        at = match.end()


def _value(match: re.Match[str], known: Mapping[str, str]) -> str | None:
    if match["value"] is None:
        return known.get(match["name"])
    if match["single"] is not None:
        return match["single"]
    text = _COMMENT.sub("", match["bare"]).strip() if match["double"] is None else _unescaped(match["double"])
    return interpolate(text, Variables(values=known))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED.get(match[1], match[1]), text)
