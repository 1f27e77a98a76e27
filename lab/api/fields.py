"""Fields of a request's JSON document, checked as they are taken; null and a missing field are the same; pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from lab.errors import SpecError

Document = Mapping[str, object]
_Kind = TypeVar("_Kind")


def _taken(document: Document, name: str, kind: type[_Kind], default: _Kind) -> _Kind:
    value = document.get(name)
    if value is None:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise SpecError(f"invalid JSON: {name}: {kind.__name__} is expected, not {type(value).__name__}")
    return value


def text(document: Document, name: str) -> str:
    """Return a text, "" for none.

    Raises:
        SpecError: it is something else.
    """
    return _taken(document, name, str, "")


def number(document: Document, name: str) -> int:
    """Return a whole number, 0 for none.

    Raises:
        SpecError: it is something else.
    """
    return _taken(document, name, int, 0)


def truth(document: Document, name: str) -> bool:
    """Return a truth, False for none.

    Raises:
        SpecError: it is something else.
    """
    return _taken(document, name, bool, False)


def object_of(document: Document, name: str) -> Document:
    """Return an object, an empty one for none.

    Raises:
        SpecError: it is something else.
    """
    return _taken(document, name, dict, {})


def texts(document: Document, name: str) -> tuple[str, ...]:
    """Return a list of texts, none for none; one text alone stands for a list of it.

    Raises:
        SpecError: it is something else.
    """
    value = document.get(name)
    if isinstance(value, str):
        return (value,)
    found: Sequence[object] = _taken(document, name, list, [])
    if not all(isinstance(each, str) for each in found):
        raise SpecError(f"invalid JSON: {name}: a list of texts is expected")
    return tuple(str(each) for each in found)


def objects(document: Document, name: str) -> tuple[Document, ...]:
    """Return a list of objects, none for none.

    Raises:
        SpecError: it is something else.
    """
    found: Sequence[object] = _taken(document, name, list, [])
    return tuple(_object(each, name) for each in found if each is not None)


def _object(value: object, name: str) -> Document:
    if not isinstance(value, dict):
        raise SpecError(f"invalid JSON: {name}: a list of objects is expected")
    return value


def text_map(document: Document, name: str) -> dict[str, str]:
    """Return an object of texts, an empty one for none.

    Raises:
        SpecError: it is something else.
    """
    return {key: "" if value is None else str(value) for key, value in object_of(document, name).items()}
