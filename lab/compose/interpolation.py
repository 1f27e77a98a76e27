"""Variables in texts: ``$NAME``, ``${NAME:-default}`` and their like are replaced; pure.

Source: https://github.com/compose-spec/compose-spec/blob/main/spec.md, "Interpolation".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lab.compose.tree import Node, below

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")
_MOST_DEPTH = 32  # of variables in the words of variables


class InterpolationError(ValueError):
    """A text is no template, or a variable that has to have a value has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variables:
    """The values of variables, and the names that were asked for without having one, in the order of asking."""

    values: Mapping[str, str]
    missing: dict[str, None] = field(default_factory=dict)

    def get(self, name: str) -> str:
        """Return a variable's value, "" for one that has none, which is noted."""
        if name not in self.values:
            self.missing[name] = None
        return self.values.get(name, "")

    def warnings(self) -> tuple[str, ...]:
        """Return what to tell the user about variables that have no value."""
        return tuple(f'The "{name}" variable is not set. Defaulting to a blank string.' for name in self.missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variable:
    """A variable in a template.

    ``operator`` is "", or one of - ? + with or without a colon before it, and ``word`` is what follows.
    """

    name: str
    operator: str = ""
    word: Template = ()


Template: TypeAlias = "tuple[str | Variable, ...]"


def interpolate_tree(node: Node, variables: Variables, where: str = "") -> Node:
    """Return a tree with the variables in all of its texts replaced; keys stay as they are.

    Raises:
        SpecError: a text is no template, or a variable that has to have a value has none.
    """
    if isinstance(node.value, str):
        try:
            return node.having(interpolate(node.value, variables))
        except InterpolationError as error:
            raise node.wrong(where, str(error)) from None
    if entries := node.entries():
        return node.having({key: interpolate_tree(each, variables, below(where, key)) for key, each in entries.items()})
    if items := node.items():
        return node.having([interpolate_tree(each, variables, below(where, at)) for at, each in enumerate(items)])
    return node


def interpolate(text: str, variables: Variables) -> str:
    """Return a text with its variables replaced, and with ``$$`` as a dollar sign.

    Raises:
        InterpolationError: it is no template, or a variable that has to have a value has none.
    """
    return _evaluated(parse(text), variables) if "$" in text else text


def parse(text: str) -> Template:
    """Return the parts of a template, in order.

    Raises:
        InterpolationError: it is none.
    """
    return _Parser(text).template()


def escape(text: str) -> str:
    """Return the template that stands for ``text`` as it is."""
    return text.replace("$", "$$")


def _evaluated(template: Template, variables: Variables) -> str:
    return "".join(part if isinstance(part, str) else _value(part, variables) for part in template)


def _value(variable: Variable, variables: Variables) -> str:
    if not variable.operator:
        return variables.get(variable.name)
    value = variables.values.get(variable.name)
    present = bool(value) if variable.operator.startswith(":") else value is not None
    if variable.operator.endswith("+"):
        return _evaluated(variable.word, variables) if present else ""
    if present:
        return value or ""
    word = _evaluated(variable.word, variables)
    if variable.operator.endswith("?"):
        raise InterpolationError(f"required variable {variable.name} is missing a value" + (word and f": {word}"))
    return word


class _Parser:
    """Reads a template from left to right; an operator's word is a template within."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._inside = 0  # how many variables

    def template(self) -> Template:
        parts: list[str | Variable] = []
        while self._at < len(self._text):
            parts.append(self._part())
        return tuple(parts)

    def _part(self) -> str | Variable:
        if self._takes("$"):
            return "$" if self._takes("$") else self._variable()
        self._at += 1
        return self._text[self._at - 1]

    def _variable(self) -> Variable:
        if not self._takes("{"):
            return Variable(name=self._match(_NAME))
        name = self._match(_NAME)
        if self._takes("}"):
            return Variable(name=name)
        operator = self._match(_OPERATOR)
        self._inside += 1
        if self._inside > _MOST_DEPTH:
            raise self._invalid()
        word = self._word()
        self._inside -= 1
        return Variable(name=name, operator=operator, word=word)

    def _word(self) -> Template:
        """Return what comes before the brace that closes a variable; braces within are in pairs."""
        parts: list[str | Variable] = []
        depth = 0
        while depth or not self._takes("}"):
            if self._at == len(self._text):
                raise self._invalid()
            depth += {"{": 1, "}": -1}.get(self._text[self._at], 0)
            parts.append(self._part())
        return tuple(parts)

    def _takes(self, text: str) -> bool:
        """Return whether ``text`` comes next, and pass over it if so."""
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _match(self, form: re.Pattern[str]) -> str:
        match = form.match(self._text, self._at)
        if match is None:
            raise self._invalid()
        self._at = match.end()
        return match[0]

    def _invalid(self) -> InterpolationError:
        return InterpolationError(
            f"invalid interpolation format: {self._text!r}; write $$ where a dollar sign is meant"
        )
