"""Frozen dataclasses to and from JSON objects, checked against their annotations.

Fields that a reader does not know are ignored, and fields with a default may be missing: so a file of an older
or newer schema of the same major form can be read.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any, TypeVar  # Any: a JSON value has no narrower type before it is checked

T = TypeVar("T")


def encode(value: Any) -> Any:
    """Return ``value`` as what ``json.dumps`` takes; dataclasses become objects, tuples become arrays."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [encode(item) for item in value]
    return value


def decode(kind: type[T], value: Any, *, where: str = "") -> T:
    """Return ``value``, a parsed JSON value, as an instance of ``kind``.

    Raises:
        ValueError: it does not have that shape; the message names the place in it.
    """
    return typing.cast(T, _decode(kind, value, where or kind.__name__))  # cast: the shape has just been checked


def decode_json(kind: type[T], text: bytes, *, where: str) -> T:
    """Return JSON that another program wrote as an instance of ``kind``; of its fields, those that ``kind`` has.

    Raises:
        ValueError: it is not JSON, does not have that shape, or says NaN or infinite for a number.
    """
    try:
        return decode(kind, json.loads(text, parse_constant=_refuse), where=where)
    except RecursionError as error:
        raise ValueError(f"{where}: nested too deeply") from error


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no measurement")


def _decode(kind: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), value, where)
    if origin is tuple:
        item_kind = typing.get_args(kind)[0]
        _expect(isinstance(value, list), "an array", value, where)
        return tuple(_decode(item_kind, item, f"{where}[{index}]") for index, item in enumerate(value))
    if origin is Mapping:
        item_kind = typing.get_args(kind)[1]
        _expect(isinstance(value, dict), "an object", value, where)
        return {key: _decode(item_kind, item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_object(kind, value, where)
    return _decode_scalar(kind, value, where)


def _decode_object(kind: Any, value: Any, where: str) -> Any:
    _expect(isinstance(value, dict), "an object", value, where)
    arguments = {}
    for name, field_kind, required in _fields(kind):
        if name in value:
            arguments[name] = _decode(field_kind, value[name], f"{where}.{name}")
        elif required:
            raise ValueError(f"{where}: '{name}' is missing")
    return kind(**arguments)


def _decode_union(kinds: tuple[Any, ...], value: Any, where: str) -> Any:
    for kind in kinds:
        # bool is a subclass of int: the exact type must win
        if type(value) is kind or (kind is type(None) and value is None):
            return value
    raise ValueError(f"{where}: {value!r} is not one of {', '.join(kind.__name__ for kind in kinds)}")


def _decode_scalar(kind: Any, value: Any, where: str) -> Any:
    if issubclass(kind, Enum):
        _expect(value in [member.value for member in kind], f"a {kind.__name__}", value, where)
        return kind(value)
    if kind is float:
        _expect(isinstance(value, (int, float)) and not isinstance(value, bool), "a number", value, where)
        return float(value)
    _expect(type(value) is kind, f"of type {kind.__name__}", value, where)
    return value


def _expect(condition: bool, what: str, value: object, where: str) -> None:
    if not condition:
        raise ValueError(f"{where}: {value!r:.60} is not {what}")


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = typing.get_type_hints(kind)
    missing = dataclasses.MISSING
    return tuple(
        (field.name, hints[field.name], field.default is missing and field.default_factory is missing)
        for field in dataclasses.fields(kind)
    )
