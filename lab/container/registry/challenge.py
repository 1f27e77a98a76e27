"""What a registry asks for when it answers 401: its WWW-Authenticate header; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_TOKEN})(?=\s*,|\s*$|\s+[^\s=])")
_PARAMETER = re.compile(rf'\s*,?\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """One way to authenticate: the scheme in lower case, and its parameters, their names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def parse_challenges(headers: Iterable[str]) -> tuple[Challenge, ...]:
    """Return the challenges in the values of WWW-Authenticate; what cannot be read ends a value.

    Source: RFC 9110, section 11.6.1.
    """
    return tuple(challenge for header in headers for challenge in _parse(header))


def _parse(header: str) -> Iterable[Challenge]:
    position = 0
    while found := _SCHEME.match(header, position):
        position = found.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, position):
            position = parameter.end()
            quoted, plain = parameter[2], parameter[3]
            parameters[parameter[1].lower()] = plain if quoted is None else _ESCAPED.sub(r"\1", quoted)
        yield Challenge(scheme=found[1].lower(), parameters=parameters)
