"""YAML text to a tree with places, and plain data to YAML text; the only file that knows PyYAML.

Plain scalars mean what they mean to docker compose, whose library takes YAML 1.2's truth values, so that ``on`` and
``no`` are texts, and YAML 1.1's octal numbers, but not its numbers to the base of 60: ``22:22`` is a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any  # Any: PyYAML's nodes hold values without a type of their own

import yaml

from lab.compose.tree import Node, Place, Scalar, Tag, Value
from lab.errors import SpecError

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML was built with it
_Writer: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

_PREFIX = "tag:yaml.org,2002:"
_NULL, _BOOL, _INT, _FLOAT, _MERGE = (_PREFIX + name for name in ("null", "bool", "int", "float", "merge"))
_STRUCTURES = frozenset(_PREFIX + name for name in ("str", "seq", "map"))
_KNOWN_TAGS = _STRUCTURES | {_NULL, _BOOL, _INT, _FLOAT, *Tag}

_MOST_VALUES = 200_000  # what aliases of aliases may expand to
_MOST_DEPTH = 64

_PLAIN = {
    _NULL: re.compile(r"~|null|Null|NULL|"),
    _BOOL: re.compile(r"true|True|TRUE|false|False|FALSE"),
    _INT: re.compile(  # no longer than anybody means a number to be
        r"[-+]?(0b[01][01_]{0,63}|0o?[0-7][0-7_]{0,21}|0x[0-9a-fA-F][0-9a-fA-F_]{0,15}|0|[1-9][0-9_]{0,19})"
    ),
    _FLOAT: re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"),
    _MERGE: re.compile(r"<<"),
}


# PyYAML's form of such a table: by the first character, where None is any.
_RESOLVERS = {None: [(tag, re.compile(rf"(?:{form.pattern})\Z")) for tag, form in _PLAIN.items()]}


class _Loader(_Parser):  # type: ignore[misc]  # its base is known at run time only
    """Resolves plain scalars by our own table."""

    yaml_implicit_resolvers = _RESOLVERS


class _Dumper(_Writer):  # type: ignore[misc]  # its base is known at run time only
    """Writes quotes around texts that we, or readers of YAML 1.1, would take for something else."""

    yaml_implicit_resolvers = {**_Writer.yaml_implicit_resolvers, **_RESOLVERS}  # noqa: RUF012 - PyYAML's own way


def parse(text: str, *, file: str, directory: str) -> tuple[Node, ...]:
    """Return the documents of a file, aliases and merge keys resolved; relative paths start from ``directory``.

    Raises:
        SpecError: it is no YAML, has a key twice, or a tag that is not known.
    """
    return tuple(_Reader(file, directory).node(each) for each in _documents(text, file))


def dump(data: object) -> str:
    """Return plain data as YAML, with keys in their order."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**16)
    return text


def _documents(text: str, file: str) -> Iterator[Any]:
    try:
        loader = _Loader(text)
        while loader.check_node():
            yield loader.get_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = ", ".join(part for part in (error.context, error.problem) if part)
        raise SpecError(f"not YAML: {words}", path=file, line=mark.line + 1 if mark else None) from None
    except yaml.YAMLError as error:
        raise SpecError(f"not YAML: {' '.join(str(error).split())}", path=file) from None


class _Reader:
    """Makes our nodes of PyYAML's, for one document; each anchor is read once."""

    def __init__(self, file: str, directory: str) -> None:
        self._file = file
        self._directory = directory
        self._read: dict[int, tuple[Node, int]] = {}
        self._open: set[int] = set()

    def node(self, source: Any) -> Node:
        """Return a node of ours.

        Raises:
            SpecError: a tag is unknown, a key comes twice, or aliases lead round or too far.
        """
        return self._sized(source)[0]

    def _sized(self, source: Any) -> tuple[Node, int]:
        known = self._read.get(id(source))
        if known is None:
            if id(source) in self._open:
                raise self._wrong(source, "an alias that contains itself")
            if len(self._open) == _MOST_DEPTH:
                raise self._wrong(source, f"more than {_MOST_DEPTH} lists and mappings within each other")
            self._open.add(id(source))
            known = self._read[id(source)] = self._new(source)
            self._open.remove(id(source))
        if known[1] > _MOST_VALUES:
            raise self._wrong(source, f"aliases expand to more than {_MOST_VALUES} values")
        return known

    def _new(self, source: Any) -> tuple[Node, int]:
        if source.tag not in _KNOWN_TAGS:
            raise self._wrong(source, f"the tag {source.tag} is not known", hint="!reset and !override are")
        tag = Tag(source.tag) if source.tag in tuple(Tag) else Tag.NONE
        value, size = self._value(source)
        return Node(value=value, place=self._place(source), tag=tag), 1 + size

    def _value(self, source: Any) -> tuple[Value, int]:
        """Return what a node holds, and how many values are in it."""
        if isinstance(source, yaml.ScalarNode):
            return _scalar(source), 0
        if isinstance(source, yaml.SequenceNode):
            items = [self._sized(item) for item in source.value]
            return [node for node, _ in items], sum(size for _, size in items)
        entries = self._entries(source)
        return {key: node for key, (node, _) in entries.items()}, sum(size for _, size in entries.values())

    def _entries(self, source: Any) -> dict[str, tuple[Node, int]]:
        """Return a mapping's entries, those of its merge keys first: its own count more, the first merged one most."""
        own: dict[str, tuple[Node, int]] = {}
        merged: dict[str, tuple[Node, int]] = {}
        for key, value in source.value:
            if key.tag == _MERGE:
                merged = {**self._merged(value), **merged}
                continue
            name = self._key(key)
            if name in own:
                raise self._wrong(key, f"the key '{name}' is there already, in line {own[name][0].place.line}")
            node, size = self._sized(value)
            own[name] = Node(value=node.value, place=self._place(key), tag=node.tag), size
        return {**merged, **own}

    def _merged(self, source: Any) -> dict[str, tuple[Node, int]]:
        found: dict[str, tuple[Node, int]] = {}
        for each in source.value if isinstance(source, yaml.SequenceNode) else [source]:
            if not isinstance(each, yaml.MappingNode):
                raise self._wrong(each, "'<<' takes a mapping, or a list of mappings")
            self._sized(each)  # looks for aliases that lead round
            found = {**self._entries(each), **found}
        return found

    def _key(self, source: Any) -> str:
        if not isinstance(source, yaml.ScalarNode):
            raise self._wrong(source, "a key has to be a text")
        name: str = source.value
        return name

    def _place(self, source: Any) -> Place:
        return Place(file=self._file, line=source.start_mark.line + 1, directory=self._directory)

    def _wrong(self, source: Any, what: str, *, hint: str = "") -> SpecError:
        return SpecError(what, path=self._file, line=source.start_mark.line + 1, hint=hint)


def _scalar(source: Any) -> Scalar:
    text: str = source.value
    tag = source.tag
    if tag in tuple(Tag):  # PyYAML resolves what has no tag of its own only
        tag = _implicit(text) if source.style in (None, "") else _PREFIX + "str"
    if tag == _NULL:
        return None
    if tag == _BOOL:
        return text.lower() == "true"
    if tag == _INT:
        return _integer(text.replace("_", ""))
    return float(re.sub(r"\.(?=[a-z])", "", text.lower())) if tag == _FLOAT else text


def _implicit(text: str) -> str:
    found = (tag for tag, form in _PLAIN.items() if form.fullmatch(text))
    return next(found, _PREFIX + "str")


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    return sign * int(digits, 8 if octal else 0)


def mapping_of(node: Node) -> Mapping[str, Node]:
    """Return the entries of a document; none for one that is empty.

    Raises:
        SpecError: it is a list or a scalar.
    """
    if node.value is None:
        return {}
    if not isinstance(node.value, Mapping):
        raise node.wrong("", "a compose file is a mapping, with 'services' and so on")
    return node.value
