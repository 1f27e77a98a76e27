"""OCI documents as frozen dataclasses: to JSON in the specification's spelling, and back.

``oci_version`` is "ociVersion" on disk. Fields that have their default are left out.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, TypeVar, cast

T = TypeVar("T")

_LARGE = ("id", "io", "iops", "oom")


def encode(value: object) -> Any:  # Any: JSON has no type of its own in Python
    """Return a dataclass, or what its fields hold, as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            camel(field.name): encode(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if not _is_default(field, getattr(value, field.name))
        }
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return value.value if isinstance(value, Enum) else value


def decode(kind: type[T], document: Any) -> T:  # Any: what json.loads returns
    """Return a JSON document as a dataclass of ``kind``; keys that it does not know are ignored, as OCI wants.

    Raises:
        TypeError: a field without default is missing, or a value has another shape.
        ValueError: a value is none of an enumeration's.
    """
    return cast(T, _decode(kind, document))  # cast: the recursion goes through types known only at run time


def camel(name: str) -> str:
    """Return ``snake_case`` as ``camelCase``; some words are written large, as in ``containerID``."""
    head, *tail = name.split("_")
    return head + "".join(word.upper() if word in _LARGE else word.capitalize() for word in tail)


def _is_default(field: dataclasses.Field[Any], value: object) -> bool:  # Any: fields of every type
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return field.default is not dataclasses.MISSING and bool(value == field.default) and field.name != "oci_version"


def _decode(kind: Any, value: Any) -> object:  # Any: type expressions have no common type
    origin = typing.get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decode(typing.get_args(kind)[0], value)
    if origin is tuple:
        return tuple(_decode(typing.get_args(kind)[0], item) for item in value)
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(cast(type, kind), value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return dict(value) if origin is not None else value


@functools.cache
def _members(kind: type) -> tuple[tuple[str, str, Any], ...]:  # Any: type expressions have no common type
    """Return name, key in a document and type of each field."""
    hints = typing.get_type_hints(kind)  # evaluates text, which is dear
    return tuple((name, camel(name), hint) for name, hint in hints.items())


def prepare(kind: type) -> None:
    """Evaluate the types of a dataclass's fields now, and of those within, so that no ``decode`` has to."""
    for _, _, hint in _members(kind):
        for inner in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(inner):
                prepare(cast(type, inner))


def _decode_dataclass(kind: type, document: Any) -> object:  # Any: a JSON object
    if not isinstance(document, Mapping):
        raise TypeError(f"{kind.__name__} must be an object, not {document!r}")
    return kind(**{name: _decode(hint, document[key]) for name, key, hint in _members(kind) if key in document})
