"""The shapes that values of a compose file can have: each checks a value and makes it uniform.

What a shape gives has one form only: durations are nanoseconds, sizes bytes, lists of "NAME=VALUE" mappings, and a lone
text a list of one where either may stand. So what comes later, merging and reading, has no forms to tell apart.
"""

from __future__ import annotations

import difflib
import math
import re
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lab.compose.tree import Node, Plain, Tag, Value, below, kind, planted, spelling
from lab.units import NS_PER_US, parse_bytes, parse_duration_ns

_EXTENSION = "x-"
_MOST_PORT = 65535
_TRUE = ("true", "yes", "y", "on", "1")
_FALSE = ("false", "no", "n", "off", "0")


class Shape(Protocol):
    """What a value has to be."""

    def read(self, node: Node, where: str) -> Node:
        """Return the value in its uniform form; ``where`` is its key path, for errors.

        Raises:
            SpecError: it is something else.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text; a number where there is only one way to write it. ``form`` is what all of it has to match."""

    what: str = "a text"
    form: str = ""

    def read(self, node: Node, where: str) -> Node:
        """Return the text."""
        value = node.value
        if isinstance(value, bool) or not isinstance(value, str | int):
            hint = "write it in quotes" if isinstance(value, bool | float) else ""
            raise node.wrong(where, f"has to be {self.what}, not {kind(value)}", hint=hint)
        text = spelling(value)
        if self.form and re.fullmatch(self.form, text) is None:
            raise node.wrong(where, f"has to be {self.what}, not {kind(text)}")
        return node.having(text)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: Collection[str]

    def read(self, node: Node, where: str) -> Node:
        """Return the word."""
        text = Text().read(node, where).text()
        if text not in self.words:
            raise node.wrong(
                where, f"{text!r} is none of: {', '.join(self.words)}", hint=did_you_mean(text, self.words)
            )
        return node.having(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A scalar that means something else: ``meaning`` gives it, and raises ``ValueError`` for what is not ``what``."""

    what: str
    meaning: Callable[[str], Value]

    def read(self, node: Node, where: str) -> Node:
        """Return the meaning."""
        if isinstance(node.value, bool | int | float | str):
            try:
                return node.having(self.meaning(spelling(node.value)))
            except (ValueError, OverflowError):
                pass
        raise node.wrong(where, f"has to be {self.what}, not {kind(node.value)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OctalMode:
    """Permission bits: a number, which YAML has read as octal if it begins with 0, or a text of octal digits."""

    def read(self, node: Node, where: str) -> Node:
        """Return the bits."""
        value = int(node.value, 8) if isinstance(node.value, str) and _is_octal(node.value) else node.value
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o7777:
            raise node.wrong(where, f"has to be permission bits such as 0440, not {kind(node.value)}")
        return node.having(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A command: a text is split as a shell splits it, a list is as it stands.

    Where one ``may_lack``, null is a command that is not said, and no words at all are one.
    """

    may_lack: bool = False

    def read(self, node: Node, where: str) -> Node:
        """Return the list of words, or null."""
        if node.value is None and self.may_lack:
            return node
        found = self._split(node, where) if isinstance(node.value, str) else ListOf(SCALAR).read(node, where)
        if not (found.items() or self.may_lack):
            raise node.wrong(where, "has to have a word at least")
        return found

    def _split(self, node: Node, where: str) -> Node:
        try:
            return node.having([node.having(word) for word in shlex.split(node.text())])
        except ValueError as error:
            raise node.wrong(where, f"cannot be split into words: {str(error).lower()}") from None


@dataclass(frozen=True, slots=True)
class ListOf:
    """A list; where ``alone``, what is no list is a list of one."""

    item: Shape
    alone: bool = False

    def read(self, node: Node, where: str) -> Node:
        """Return the list."""
        items = enumerate(_listed(node, where, alone=self.alone))
        return node.having([self.item.read(item, below(where, index)) for index, item in items])


@dataclass(frozen=True, slots=True)
class Expanded:
    """A list whose items may be short: ``expand`` makes of each the long ones that it stands for.

    Where ``alone``, what is no list is a list of one.
    """

    long: Shape
    expand: Callable[[str], Iterable[Mapping[str, Plain]]]
    alone: bool = False

    def read(self, node: Node, where: str) -> Node:
        """Return the list of long items."""
        items = enumerate(_listed(node, where, alone=self.alone))
        return node.having([long for index, item in items for long in self._long(item, below(where, index))])

    def _long(self, item: Node, where: str) -> list[Node]:
        if isinstance(item.value, Mapping):
            short = [item]
        elif isinstance(item.value, str | int) and not isinstance(item.value, bool):
            try:
                short = [planted(long, item) for long in self.expand(spelling(item.value))]
            except ValueError as error:
                raise item.wrong(where, str(error)) from None
        else:
            raise item.wrong(where, f"has to be a text or a mapping, not {kind(item.value)}")
        return [self.long.read(each, where) for each in short]


@dataclass(frozen=True, slots=True)
class Short:
    """A mapping that a scalar or a list may stand for: ``lengthen`` makes the mapping of it, or gives None."""

    long: Shape
    lengthen: Callable[[Node], Mapping[str, Plain] | None]

    def read(self, node: Node, where: str) -> Node:
        """Return the mapping."""
        long = None if isinstance(node.value, Mapping) else self.lengthen(node)
        return self.long.read(node if long is None else node.having(planted(long, node).value), where)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Names with values: a mapping of scalars, or a list of "NAME=VALUE". A name without a value has null.

    Where that is not ``valueless``, it has the empty text instead.
    """

    valueless: bool = False

    def read(self, node: Node, where: str) -> Node:
        """Return the mapping of texts and nulls."""
        if isinstance(node.value, Mapping):
            return node.having({key: self._value(each, below(where, key)) for key, each in node.entries().items()})
        if isinstance(node.value, str) or not isinstance(node.value, Sequence):
            raise node.wrong(where, f"has to be a mapping or a list of NAME=VALUE, not {kind(node.value)}")
        found: dict[str, Node] = {}
        for index, item in enumerate(node.items()):
            name, value = self._pair(item, below(where, index))
            found[name] = value
        return node.having(found)

    def _pair(self, item: Node, where: str) -> tuple[str, Node]:
        text = SCALAR.read(item, where).text()
        name, separator, value = text.partition("=")
        if not name:
            raise item.wrong(where, f"{text!r} has no name before the '='")
        return name, self._value(item.having(value if separator else None), where)

    def _value(self, node: Node, where: str) -> Node:
        if node.tag == Tag.RESET:
            return node
        if node.value is None:
            return node if self.valueless else node.having("")
        return SCALAR.read(node, where)


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping whose keys are names of the user's own choice, and whose values are alike."""

    value: Shape
    name_form: str = ""

    def read(self, node: Node, where: str) -> Node:
        """Return the mapping; null values are empty mappings."""
        if not isinstance(node.value, Mapping):
            raise node.wrong(where, f"has to be a mapping, not {kind(node.value)}")
        return node.having({key: self._value(key, each, where) for key, each in node.entries().items()})

    def _value(self, key: str, node: Node, where: str) -> Node:
        if self.name_form and re.fullmatch(self.name_form, key) is None:
            raise node.wrong(where, f"{key!r} is no name: letters, digits and . _ - are allowed")
        if node.tag == Tag.RESET:
            return node
        return self.value.read(node.having({}) if node.value is None else node, below(where, key))


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with known keys; others are refused, but for those that begin with "x-", which mean nothing.

    A key without a value is one that is not said, unless it is one of ``nullable``.
    """

    keys: Mapping[str, Shape]
    required: tuple[str, ...] = ()
    nullable: tuple[str, ...] = ()

    def read(self, node: Node, where: str) -> Node:
        """Return the mapping."""
        if not isinstance(node.value, Mapping):
            raise node.wrong(where, f"has to be a mapping, not {kind(node.value)}")
        found = {
            key: self._value(key, each, where) for key, each in node.entries().items() if not self._is_idle(key, each)
        }
        for key in self.required:
            if key not in found:
                raise node.wrong(where, f"'{key}' is missing")
        return node.having(found)

    def _value(self, key: str, node: Node, where: str) -> Node:
        if key not in self.keys:
            raise node.wrong(below(where, key), "there is no such key", hint=did_you_mean(key, self.keys))
        return node if node.tag == Tag.RESET else self.keys[key].read(node, below(where, key))

    def _is_idle(self, key: str, node: Node) -> bool:
        unsaid = node.value is None and node.tag == Tag.NONE and key in self.keys and key not in self.nullable
        return unsaid or key.startswith(_EXTENSION)


@dataclass(frozen=True, slots=True)
class Anything:
    """What is accepted unseen."""

    def read(self, node: Node, where: str) -> Node:  # noqa: ARG002 - the protocol's
        """Return the value as it is."""
        return node


@dataclass(frozen=True, slots=True)
class Refused:
    """What cannot be had here, and why."""

    why: str
    hint: str = ""

    def read(self, node: Node, where: str) -> Node:
        """Refuse it."""
        raise node.wrong(where, self.why, hint=self.hint)


def _listed(node: Node, where: str, *, alone: bool) -> Sequence[Node]:
    if isinstance(node.value, Sequence) and not isinstance(node.value, str):
        return node.items()
    if not alone:
        raise node.wrong(where, f"has to be a list, not {kind(node.value)}")
    return [node]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the hint that names the nearest of the known words, "" where none is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else ""


def _is_octal(text: str) -> bool:
    return re.fullmatch(r"(0o)?[0-7]+", text) is not None


def _truth(text: str) -> bool:
    if text.lower() not in (*_TRUE, *_FALSE):
        raise ValueError(text)
    return text.lower() in _TRUE


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _count(text: str) -> int:
    if int(text) < 0:
        raise ValueError(text)
    return int(text)


def _port(text: str) -> int:
    if not 0 < int(text) <= _MOST_PORT:
        raise ValueError(text)
    return int(text)


def _duration_ns(text: str) -> int:
    return 0 if text == "0" else parse_duration_ns(text)


def _microseconds(text: str) -> int:
    return int(text) if text.lstrip("-").isdecimal() else parse_duration_ns(text) // NS_PER_US


def _bytes(text: str) -> int:
    return -1 if text == "-1" else parse_bytes(text)


SCALAR = Converted(what="a text, a number or a truth value", meaning=str)
TRUTH = Converted(what="true or false", meaning=_truth)
WHOLE = Converted(what="a whole number", meaning=int)
COUNT = Converted(what="a whole number, 0 or more", meaning=_count)
PORT = Converted(what="a port, 1 to 65535", meaning=_port)
NUMBER = Converted(what="a number", meaning=_number)
BYTES = Converted(what="a size such as 512m", meaning=_bytes)
DURATION = Converted(what="a duration such as 1m30s", meaning=_duration_ns)
MICROSECONDS = Converted(what="microseconds, or a duration such as 50ms", meaning=_microseconds)
