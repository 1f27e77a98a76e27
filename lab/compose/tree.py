"""What a file says as a tree, where each value knows its place: for errors, and for paths that are relative to it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from lab.errors import SpecError

Scalar: TypeAlias = bool | int | float | str | None
Value: TypeAlias = "Scalar | Sequence[Node] | Mapping[str, Node]"
Plain: TypeAlias = "Scalar | Node | Sequence[Plain] | Mapping[str, Plain]"


class Tag(StrEnum):
    """How a value takes part in merging: as usual, by removing what was there, or by standing in for it whole."""

    NONE = ""
    RESET = "!reset"
    OVERRIDE = "!override"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A line of a file, and the directory that relative paths on it start from."""

    file: str
    line: int
    directory: str

    def join(self, path: str) -> str:
        """Return a path of the file as an absolute one; "~" is the user's home."""
        return os.path.normpath(os.path.join(self.directory, os.path.expanduser(path)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A scalar, a list or a mapping, with its place: that of its key where it has one."""

    value: Value
    place: Place
    tag: Tag = Tag.NONE

    def having(self, value: Value) -> Node:
        """Return another value at the same place."""
        return Node(value=value, place=self.place, tag=self.tag)

    def wrong(self, where: str, what: str, *, hint: str = "") -> SpecError:
        """Return the error that this value, whose key path is ``where``, is wrong."""
        message = f"{where}: {what}" if where else what
        return SpecError(message, path=self.place.file, line=self.place.line, hint=hint)

    def entries(self) -> Mapping[str, Node]:
        """Return what a mapping holds, nothing for what is none."""
        return self.value if isinstance(self.value, Mapping) else {}

    def items(self) -> Sequence[Node]:
        """Return what a list holds, nothing for what is none."""
        return self.value if isinstance(self.value, Sequence) and not isinstance(self.value, str) else ()

    def get(self, key: str) -> Node | None:
        """Return what stands at a key of a mapping, None where there is none."""
        return self.entries().get(key)

    def text(self, key: str = "") -> str:
        """Return the text at a key, or of the value itself: "" where it is not said."""
        node = self.get(key) if key else self
        return "" if node is None else spelling(node.value)

    def texts(self, key: str) -> tuple[str, ...]:
        """Return the list of texts at a key, empty where it is not said."""
        node = self.get(key)
        return () if node is None else tuple(item.text() for item in node.items())

    def pairs(self, key: str) -> dict[str, str]:
        """Return the mapping of texts at a key, empty where it is not said."""
        node = self.get(key)
        return {} if node is None else {name: value.text() for name, value in node.entries().items()}

    def whole(self, key: str) -> int | None:
        """Return the whole number at a key, None where it is not said."""
        node = self.get(key)
        return node.value if node is not None and isinstance(node.value, int) else None

    def number(self, key: str) -> float | None:
        """Return the number at a key, None where it is not said."""
        node = self.get(key)
        return node.value if node is not None and isinstance(node.value, int | float) else None

    def truth(self, key: str, *, default: bool = False) -> bool:
        """Return the truth value at a key, ``default`` where it is not said."""
        node = self.get(key)
        return node.value if node is not None and isinstance(node.value, bool) else default

    def path(self, key: str) -> str:
        """Return the path at a key as an absolute one, "" where it is not said."""
        node = self.get(key)
        return "" if node is None or not node.text() else node.place.join(node.text())

    def at(self, key: str) -> Node:
        """Return what stands at a key, an empty mapping where nothing does."""
        return self.get(key) or self.having({})


def planted(value: Plain, at: Node) -> Node:
    """Return plain data as a tree, all of it at one place."""
    if isinstance(value, Node):
        return value
    if isinstance(value, Mapping):
        return at.having({key: planted(each, at) for key, each in value.items()})
    if isinstance(value, Sequence) and not isinstance(value, str):
        return at.having([planted(each, at) for each in value])
    return at.having(value)


def spelling(value: Value) -> str:
    """Return a scalar as text, as docker compose writes one into an environment: "true", "8080", "1.5"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    return "" if value is None else str(value)


def kind(value: Value) -> str:
    """Return what to call a value in an error."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return f"the truth value {spelling(value)}"
    if isinstance(value, int | float):
        return f"the number {spelling(value)}"
    if isinstance(value, str):
        return f"{value!r}"
    return "a mapping" if isinstance(value, Mapping) else "a list"


def below(where: str, key: str | int) -> str:
    """Return the key path of what is at a key, or at a place of a list, below ``where``."""
    if isinstance(key, int):
        return f"{where}[{key}]"
    return f"{where}.{key}" if where else key
