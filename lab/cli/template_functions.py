"""The functions of a template: Go's own and docker's, by name, with what they take; pure.

Sources: https://pkg.go.dev/text/template#hdr-Functions, https://docs.docker.com/engine/cli/formatting/.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from lab.cli.template_values import Value, encoded, equal, formatted, joined, less, shown, type_name

STRING, INT, STRINGS, ANY = "string", "int", "[]string", "any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """What is called, and the types of its arguments; the last type stands for any number more if ``variadic``."""

    call: Callable[..., Value]
    takes: tuple[str, ...] = (ANY,)
    variadic: bool = False

    def count_fault(self, count: int) -> str:
        """Return what is wrong with this number of arguments, "" if nothing is."""
        least = len(self.takes) - self.variadic
        if count < least or (count > least and not self.variadic):
            return f"want {'at least ' if self.variadic else ''}{least} got {count}"
        return ""

    def type_of(self, index: int) -> str:
        """Return the type of one argument."""
        return self.takes[min(index, len(self.takes) - 1)]


def fits(value: Value, kind: str) -> bool:
    """Return whether a value may be given where ``kind`` is asked for; nil is an empty list."""
    if kind == STRING:
        return isinstance(value, str)
    if kind == INT:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == STRINGS:
        return value is None or (isinstance(value, (list, tuple)) and all(isinstance(item, str) for item in value))
    return True


def _index(value: Value, *keys: Value) -> Value:
    for key in keys:
        value = _item(value, key)
    return value


def _item(value: Value, key: Value) -> Value:
    if value is None:
        raise ValueError("index of nil pointer")
    if isinstance(value, Mapping):
        # a missing key of a map of strings is the empty string, as Go has it
        return value.get(key, "" if all(isinstance(item, str) for item in value.values()) else None)
    if not isinstance(value, (list, tuple, str)):
        raise ValueError(f"can't index item of type {type_name(value)}")
    if not isinstance(key, int) or isinstance(key, bool):
        raise ValueError(f"cannot index slice/array with type {type_name(key)}")
    if not 0 <= key < _length(value):
        raise ValueError(f"index out of range: {key}")
    return value.encode()[key] if isinstance(value, str) else value[key]


def _slice(value: Value, *bounds: Value) -> Value:
    if not isinstance(value, (list, tuple, str)):
        raise ValueError(f"can't slice item of type {type_name(value)}")
    whole = value.encode() if isinstance(value, str) else value
    numbers = [bound if isinstance(bound, int) else -1 for bound in bounds]
    begin, end = [*numbers, *(0, len(whole))[len(numbers) :]][:2]
    for bound in (begin, end):
        if not 0 <= bound <= len(whole):
            raise ValueError(f"index out of range: {bound}")
    if begin > end:
        raise ValueError(f"invalid slice index: {begin} > {end}")
    cut = whole[begin:end]
    return cut.decode(errors="replace") if isinstance(cut, bytes) else cut


def _length(value: Value) -> int:
    if value is None:
        return 0
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Mapping):
        return len(value)
    if isinstance(value, (list, tuple)):
        return len(value)
    raise ValueError(f"len of type {type_name(value)}")


def _eq(first: Value, *others: Value) -> bool:
    if not others:
        raise ValueError("missing argument for comparison")
    return any(equal(first, other) for other in others)


def _split(text: str, separator: str) -> list[str]:
    return text.split(separator) if separator else list(text)


def _join(values: Sequence[str] | None, separator: str) -> str:
    return separator.join(values or ())


def _title(text: str) -> str:
    before = [" ", *text]
    return "".join(
        char.title() if not (previous.isalnum() or previous == "_") else char
        for previous, char in zip(before, text, strict=False)
    )


def _pad(text: str, before: int, after: int) -> str:
    return " " * before + text + " " * after if text else ""


def _truncate(text: str, length: int) -> str:
    return text.encode()[:length].decode(errors="replace")


def _text(values: Sequence[Value]) -> str:
    """Return what an escaping function escapes."""
    return joined(["<no value>" if value is None else value for value in values], always=False)


def _not(value: Value) -> bool:
    return not value


_HTML = str.maketrans({"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&#34;", "'": "&#39;", "\0": "\ufffd"})
FUNCTIONS: dict[str, Function] = {
    "json": Function(call=encoded),
    "split": Function(call=_split, takes=(STRING, STRING)),
    "join": Function(call=_join, takes=(STRINGS, STRING)),
    "title": Function(call=_title, takes=(STRING,)),
    "lower": Function(call=str.lower, takes=(STRING,)),
    "upper": Function(call=str.upper, takes=(STRING,)),
    "pad": Function(call=_pad, takes=(STRING, INT, INT)),
    "truncate": Function(call=_truncate, takes=(STRING, INT)),
    "len": Function(call=_length),
    "index": Function(call=_index, takes=(ANY, ANY), variadic=True),
    "slice": Function(call=_slice, takes=(ANY, INT), variadic=True),
    "print": Function(call=lambda *values: joined(values, always=False), variadic=True),
    "println": Function(call=lambda *values: joined(values, always=True) + "\n", variadic=True),
    "printf": Function(call=lambda text, *values: formatted(text, values), takes=(STRING, ANY), variadic=True),
    "html": Function(call=lambda *values: _text(values).translate(_HTML), variadic=True),
    "urlquery": Function(call=lambda *values: urllib.parse.quote_plus(_text(values)), variadic=True),
    "not": Function(call=_not),
    "eq": Function(call=_eq, takes=(ANY, ANY), variadic=True),
    "ne": Function(call=lambda first, second: not equal(first, second), takes=(ANY, ANY)),
    "lt": Function(call=less, takes=(ANY, ANY)),
    "le": Function(call=lambda first, second: less(first, second) or equal(first, second), takes=(ANY, ANY)),
    "gt": Function(call=lambda first, second: less(second, first), takes=(ANY, ANY)),
    "ge": Function(call=lambda first, second: not less(first, second), takes=(ANY, ANY)),
}
"""Every function but ``and`` and ``or``, which look at no more arguments than they need."""

LAZY = ("and", "or")
KEPT_IN_HEADERS = ("json", "split", "join", "title", "lower", "upper", "truncate")
"""Functions that leave a heading as it is, whatever their other arguments."""


def heading_functions() -> dict[str, Function]:
    """Return the functions as they are when a table's headings are written."""
    unchanged = {
        name: Function(call=lambda text, *_: shown(text), takes=(ANY, ANY), variadic=True) for name in KEPT_IN_HEADERS
    }
    return FUNCTIONS | unchanged
