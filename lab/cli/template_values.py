"""Values in a Go template: how Go prints, compares and encodes what JSON can hold; pure.

A mapping stands for a Go struct if all its keys look like fields of one (``Id``, ``RepoTags``), else for a map.
Sources: https://pkg.go.dev/fmt, https://pkg.go.dev/encoding/json, https://pkg.go.dev/text/template.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeGuard

from lab.units import Nanoseconds

Value = object
_EXPORTED = re.compile(r"[A-Z]\w*")
_VERB = re.compile(r"%([+\-# 0]*)(\d*)(?:\.(\d*))?(.)", re.DOTALL)
_CONTROL = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
_EXPONENT_MAX = 21  # from here on encoding/json writes 1e+21
_SHORTEST_MAX = 6  # from here on fmt's %v writes 1e+06


class Row(dict[str, Value]):
    """A row of a listing: as JSON its keys are sorted and ``<``, ``>`` and ``&`` are escaped, as docker has it."""


class Struct(dict[str, Value]):
    """An object of one of Go's types: fields that are ``omitted`` have a value, and are not in its JSON."""

    def __init__(self, fields: Mapping[str, Value], *, omitted: frozenset[str]) -> None:
        super().__init__(fields)
        self.omitted = omitted


class _NilSlice(tuple[Value, ...]):
    """Go's nil of a list: empty, and null as JSON."""

    __slots__ = ()


class _NilMap(dict[str, Value]):
    """Go's nil of a map: empty, and null as JSON."""


class _NilPointer:
    """Go's nil of a pointer, which prints as itself where an untyped nil is no value."""

    def __bool__(self) -> bool:
        return False

    def __str__(self) -> str:
        return "<nil>"


NIL, NIL_SLICE, NIL_MAP = _NilPointer(), _NilSlice(), _NilMap()


def is_nil(value: Value) -> bool:
    """Return whether a value is a typed nil."""
    return isinstance(value, (_NilPointer, _NilSlice, _NilMap))


def is_struct(value: Mapping[object, Value]) -> bool:
    """Return whether a mapping stands for a Go struct, of which a missing field is an error."""
    return bool(value) and all(isinstance(key, str) and _EXPORTED.fullmatch(key) for key in value)


def is_list(value: Value) -> bool:
    """Return whether a value is what Go calls a slice."""
    return isinstance(value, (list, tuple))


def type_name(value: Value) -> str:
    """Return the name of the type that Go has for a value out of JSON."""
    if isinstance(value, Mapping):
        return "map[string]interface {}"
    if is_list(value):
        return "[]interface {}"
    return {"str": "string", "float": "float64", "NoneType": "interface {}", "Nanoseconds": "time.Duration"}.get(
        type(value).__name__, type(value).__name__
    )


def is_true(value: Value) -> bool:
    """Return whether ``if`` takes a value for true: it is not zero, false, nil or empty."""
    return bool(value)


def printed(value: Value) -> str:
    """Return a value as an action writes it: nil is ``<no value>`` there."""
    return "<no value>" if value is None else shown(value)


def shown(value: Value) -> str:
    """Return a value as fmt's ``%v`` writes it."""
    if isinstance(value, str):
        return value
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return _general(value)
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{shown(key)}:{shown(value[key])}" for key in sorted(_said(value), key=str)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(shown(item) for item in value) + "]"
    return str(value)


def _said(value: Mapping[str, Value]) -> list[str]:
    """Return the keys of a mapping that its JSON has as well."""
    omitted = value.omitted if isinstance(value, Struct) else frozenset[str]()
    return [key for key in value if key not in omitted]


def _general(value: float) -> str:
    """Return fmt's ``%v`` of a number: as few digits as name it, with an exponent below 1e-4 and from 1e6 on."""
    if value != value or value in (float("inf"), float("-inf")):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(repr(value), "NaN")
    exact = Decimal(repr(value)).normalize()
    power, digits = exact.adjusted() if value else 0, exact.as_tuple().digits
    if -4 <= power < _SHORTEST_MAX:
        return f"{exact:f}"
    mantissa = str(digits[0]) + ("." + "".join(map(str, digits[1:])) if len(digits) > 1 else "")
    return f"{'-' if value < 0 else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"


def equal(first: Value, second: Value) -> bool:
    """Return Go's ``==``.

    Raises:
        ValueError: the two are of kinds that Go does not compare.
    """
    if first is None or second is None:
        return first is second
    if _kind(first) != _kind(second):
        raise ValueError("incompatible types for comparison")
    if _kind(first) not in _COMPARED:
        raise ValueError("non-comparable types")
    return first == second


def less(first: Value, second: Value) -> bool:
    """Return Go's ``<``, of numbers and strings.

    Raises:
        ValueError: the two are not both numbers or both strings.
    """
    ordered = ("int", "float", "str")
    if _kind(first) not in ordered or _kind(second) not in ordered:
        raise ValueError("invalid type for comparison")
    if isinstance(first, str) and isinstance(second, str):
        return first.encode() < second.encode()
    if isinstance(first, (int, float)) and isinstance(second, (int, float)) and _kind(first) == _kind(second):
        return first < second
    raise ValueError("incompatible types for comparison")


_COMPARED = ("bool", "int", "float", "str")


def _kind(value: Value) -> str:
    return "int" if isinstance(value, Nanoseconds) else type(value).__name__


def encoded(value: Value, *, escape_html: bool = False) -> str:
    """Return a value as Go's compact JSON: keys of maps sorted, those of structs as they come; functions left out."""
    if isinstance(value, str):
        return _json_text(value, escape_html=escape_html)
    if is_nil(value):
        return "null"
    if isinstance(value, Mapping):
        escape_html = escape_html or isinstance(value, Row)
        keys = sorted(value, key=str) if isinstance(value, Row) or not is_struct(value) else _said(value)
        members = (
            f"{_json_text(str(key), escape_html=escape_html)}:{encoded(value[key], escape_html=escape_html)}"
            for key in keys
            if not callable(value[key])
        )
        return "{" + ",".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(encoded(item, escape_html=escape_html) for item in value) + "]"
    if isinstance(value, float):
        return _json_number(value)
    return json.dumps(value)


def _json_text(text: str, *, escape_html: bool) -> str:
    text = json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)
    for character in "\u2028\u2029" + ("<>&" if escape_html else ""):
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _json_number(value: float) -> str:
    power = Decimal(repr(value)).adjusted() if value else 0
    if -7 < power < _EXPONENT_MAX:
        return f"{Decimal(repr(value)).normalize():f}"
    return re.sub(r"e([+-])0(\d)$", r"e\1\2", _general(value))


def joined(values: Sequence[Value], *, always: bool) -> str:
    """Return values as fmt's Print (spaces between two that are no strings) or Println (``always``) writes them."""
    text = ""
    for index, value in enumerate(values):
        apart = always or not (isinstance(value, str) or isinstance(values[index - 1], str))
        text += (" " if index and apart else "") + shown(value)
    return text


def formatted(text: str, values: Sequence[Value]) -> str:
    """Return fmt's Sprintf, its marks for wrong, missing and extra arguments included."""
    rest = list(values)

    def verb(match: re.Match[str]) -> str:
        if match[4] == "%":
            return "%"
        return _verb(match, rest.pop(0)) if rest else f"%!{match[4]}(MISSING)"

    done = _VERB.sub(verb, text)
    extra = ", ".join(f"{_go_type(value)}={shown(value)}" if value is not None else "<nil>" for value in rest)
    return f"{done}%!(EXTRA {extra})" if rest else done


def _go_type(value: Value) -> str:
    return "<nil>" if value is None else type_name(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Style:
    flags: str
    precision: str | None  # digits, "" for a bare dot, None for none

    @property
    def sign(self) -> str:
        return "+" if "+" in self.flags else ""

    def cut(self, text: str) -> str:
        return text if self.precision is None else text[: int(self.precision or 0)]


_Maker = Callable[[Value, _Style], str | None]


def _verb(match: re.Match[str], value: Value) -> str:
    flags, width, precision, name = match.groups()
    if isinstance(value, (list, tuple)) and name not in ("v", "T"):
        return "[" + " ".join("<nil>" if item is None else _verb(match, item) for item in value) + "]"
    maker = _VERBS.get(name)
    made = None if maker is None else maker(value, _Style(flags=flags, precision=precision))
    if made is None:
        return f"%!{name}(<nil>)" if value is None else f"%!{name}({_go_type(value)}={shown(value)})"
    zeros = "0" in flags and "-" not in flags and isinstance(value, (int, float))
    if zeros and made[:1] in ("+", "-"):
        return made[0] + made[1:].rjust(int(width or 0) - 1, "0")
    return made.ljust(int(width or 0)) if "-" in flags else made.rjust(int(width or 0), "0" if zeros else " ")


def _any(value: Value, style: _Style) -> str | None:
    if isinstance(value, Nanoseconds):
        return str(value)
    if isinstance(value, float):
        return _float("g")(value, style)
    return _integer("d")(value, style) or (style.cut(value) if isinstance(value, str) else shown(value))


def _string(value: Value, style: _Style) -> str | None:
    if isinstance(value, str):
        return style.cut(value)
    return shown(value) if isinstance(value, (list, tuple, Mapping, Nanoseconds)) else None


def _quoted(value: Value, style: _Style) -> str | None:
    if _is_integer(value):
        return f"'{_escaped(chr(value), chr(39))}'"
    return f'"{_escaped(style.cut(value), chr(34))}"' if isinstance(value, str) else None


def _escaped(text: str, quote: str) -> str:
    return "".join(f"\\{char}" if char in (quote, "\\") else _CONTROL.get(char) or _visible(char) for char in text)


def _visible(character: str) -> str:
    return f"\\x{ord(character):02x}" if ord(character) < 32 or ord(character) == 127 else character


def _truth(value: Value, _: _Style) -> str | None:
    return shown(value) if isinstance(value, bool) else None


def _is_integer(value: Value) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _integer(letter: str) -> _Maker:
    def made(value: Value, style: _Style) -> str | None:
        alternate = "#" if "#" in style.flags else ""
        return format(value, style.sign + alternate + letter) if _is_integer(value) else None

    return made


def _hexadecimal(letter: str) -> _Maker:
    def made(value: Value, style: _Style) -> str | None:
        if not isinstance(value, str):
            return _integer(letter)(value, style)
        digits = value.encode().hex()
        return digits if letter == "x" else digits.upper()

    return made


def _float(letter: str) -> _Maker:
    def made(value: Value, style: _Style) -> str | None:
        if not isinstance(value, float):
            return None
        if letter == "g" and style.precision is None:
            return (style.sign if value >= 0 else "") + _general(value)
        return format(value, f"{style.sign}.{6 if style.precision is None else int(style.precision or 0)}{letter}")

    return made


def _rune(value: Value, _: _Style) -> str | None:
    return chr(value) if _is_integer(value) else None


def _code_point(value: Value, _: _Style) -> str | None:
    return f"U+{value:04X}" if _is_integer(value) else None


def _type(value: Value, _: _Style) -> str | None:
    return _go_type(value)


_VERBS: dict[str, _Maker] = {
    "v": _any,
    "s": _string,
    "q": _quoted,
    "t": _truth,
    "d": _integer("d"),
    "b": _integer("b"),
    "o": _integer("o"),
    "x": _hexadecimal("x"),
    "X": _hexadecimal("X"),
    "e": _float("e"),
    "f": _float("f"),
    "g": _float("g"),
    "c": _rune,
    "U": _code_point,
    "T": _type,
}
