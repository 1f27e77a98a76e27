"""What stands behind the "?" of a request: texts, truths, numbers, times and filters, as docker's server reads them.

Source: github.com/moby/moby, api/server/httputils/form.go and api/types/filters/parse.go.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from lab.errors import SpecError
from lab.units import NS_PER_S

_FALSE = ("", "0", "no", "false", "none")
_INSTANT = re.compile(r"(\d+)(?:\.(\d{1,9}))?")
Filters = dict[str, list[str]]


class Query:
    """The parameters of one request."""

    def __init__(self, text: str) -> None:
        """Read what stands behind the "?"."""
        self._values = parse_qs(text, keep_blank_values=True)

    def __contains__(self, name: str) -> bool:
        """Return whether a parameter is given."""
        return name in self._values

    def text(self, name: str, default: str = "") -> str:
        """Return a parameter, the first one of its name."""
        return self._values.get(name, [default])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        """Return all parameters of a name."""
        return tuple(self._values.get(name, ()))

    def truth(self, name: str, *, default: bool = False) -> bool:
        """Return whether a parameter says yes, which everything but a few words does."""
        return self.text(name).strip().lower() not in _FALSE if name in self._values else default

    def number(self, name: str) -> int | None:
        """Return a whole number, None where it is not given.

        Raises:
            SpecError: it is none.
        """
        text = self.text(name)
        if not text:
            return None
        if not re.fullmatch(r"-?\d+", text):
            raise SpecError(f'strconv.Atoi: parsing "{text}": invalid syntax')
        return int(text)

    def instant_ns(self, name: str) -> int | None:
        """Return a time of day in nanoseconds, given in seconds with or without a fraction; None for none, or 0.

        Raises:
            SpecError: it is none.
        """
        text = self.text(name)
        if not text:
            return None
        match = _INSTANT.fullmatch(text)
        if match is None:
            raise SpecError(f'invalid value for "{name}": failed to parse value as time: "{text}"')
        return int(match[1]) * NS_PER_S + int((match[2] or "").ljust(9, "0")) or None

    def document(self, name: str) -> object:
        """Return the JSON value of a parameter, None where it is not given.

        Raises:
            SpecError: it is no JSON.
        """
        text = self.text(name)
        try:
            return json.loads(text) if text else None
        except (ValueError, RecursionError) as error:
            raise SpecError(f"invalid {name}: {error}") from error

    def filters(self, known: Sequence[str]) -> Filters:
        """Return the values of each filter, in either of docker's shapes: {"a": ["b"]} or {"a": {"b": true}}.

        Raises:
            SpecError: it is neither, or there is no such filter here.
        """
        found = filters(self.document("filters"))
        for name in found:
            if name not in known:
                raise SpecError(f"Invalid filter '{name}'")
        return found


def filters(document: object) -> Filters:
    """Return the values of each filter of a JSON document.

    Raises:
        SpecError: it has neither of docker's two shapes.
    """
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise SpecError(f"invalid filter: an object is expected, not {type(document).__name__}")
    return {str(name): _values(name, values) for name, values in document.items()}


def _values(name: str, values: object) -> list[str]:
    if isinstance(values, Mapping):
        return [str(value) for value, wanted in values.items() if wanted]
    if isinstance(values, list) and all(isinstance(value, str) for value in values):
        return list(values)
    raise SpecError(f"invalid filter '{name}': a list, or an object of truths, is expected")
