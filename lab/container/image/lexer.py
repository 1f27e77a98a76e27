"""Expansion of words in a Dockerfile: quotes, escapes and ``${name}`` with its modifiers.

Source: https://docs.docker.com/reference/dockerfile/#environment-replacement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lab.errors import SpecError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?!$-]")
_DEPTH_MAX = 100  # well inside the interpreter's own limit
_BLANK = " \t\n\r\v\f"


def expand(word: str, variables: Mapping[str, str], *, escape: str = "\\") -> str:
    """Return ``word`` as one word, without its quotes and with its variables replaced.

    Raises:
        SpecError: a quote or brace is not closed, a modifier is unknown, or ``${name:?text}`` fails.
    """
    return _Reader(word, variables, escape).until("")


def expand_words(word: str, variables: Mapping[str, str], *, escape: str = "\\") -> tuple[str, ...]:
    """Return the words in ``word`` after expansion; blanks in quotes do not split, nor does an empty quote vanish.

    Raises:
        SpecError: as for `expand`.
    """
    reader = _Reader(word, variables, escape)
    reader.until("")
    return reader.finished_words()


def raw_words(text: str, *, escape: str = "\\") -> tuple[str, ...]:
    """Return the words of ``text`` as written, quotes and escapes included; blanks in quotes do not split.

    A quote that is not closed reaches to the end: whoever expands the word will say so.
    """
    found: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        step = 2 if char == escape and quote != "'" else 1
        if char in _BLANK and not quote:
            found += [word] if word else []
            word = ""
        else:
            word += text[at : at + step]
        if step == 1 and char in ("'", '"') and quote in ("", char):
            quote = "" if quote else char
        at += step
    return (*found, word) if word else tuple(found)


class _Reader:
    """A cursor over one word; ``words`` collects the split form beside the joined one."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str) -> None:
        self.text, self.variables, self.escape = text, variables, escape
        self.at = 0
        self.depth = 0
        self.words: list[str] = []
        self.open_word: str | None = None

    def finished_words(self) -> tuple[str, ...]:
        return (*self.words, *(() if self.open_word is None else (self.open_word,)))

    def until(self, stop: str) -> str:
        found: list[str] = []
        while self.at < len(self.text):
            char = self.text[self.at]
            if stop and char == stop:
                self.at += 1
                return "".join(found)
            found.append(self._piece(char))
        if stop:
            raise SpecError(f"syntax error: missing {stop!r} in {self.text!r}")
        return "".join(found)

    def _piece(self, char: str) -> str:
        if char == "'":
            return self._keep(self._single())
        if char == '"':
            return self._keep(self._double())
        if char == "$":
            return self._split(self._dollar())
        self.at += 1
        if char == self.escape:
            char = self.text[self.at : self.at + 1]
            self.at += 1
            return self._keep(char) if char else ""
        return self._split(char)

    def _keep(self, text: str) -> str:
        if not self.depth:
            self.open_word = (self.open_word or "") + text
        return text

    def _split(self, text: str) -> str:
        for char in "" if self.depth else text:
            if char not in _BLANK:
                self.open_word = (self.open_word or "") + char
            elif self.open_word is not None:
                self.words.append(self.open_word)
                self.open_word = None
        return text

    def _single(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            raise SpecError(f"unexpected end of statement while looking for matching single-quote: {self.text!r}")
        found = self.text[self.at + 1 : end]
        self.at = end + 1
        return found

    def _double(self) -> str:
        found: list[str] = []
        self.at += 1
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == '"':
                self.at += 1
                return "".join(found)
            found.append(self._dollar() if char == "$" else self._quoted(char))
        raise SpecError(f"unexpected end of statement while looking for matching double-quote: {self.text!r}")

    def _quoted(self, char: str) -> str:
        self.at += 1
        following = self.text[self.at : self.at + 1]
        if char != self.escape or not following:
            return char
        self.at += 1
        return following if following in ('"', "$", self.escape) else char + following

    def _dollar(self) -> str:
        self.at += 1
        if self.text[self.at : self.at + 1] == "{":
            self.at += 1
            return self._braced()
        name = self._name()
        return self.variables.get(name, "") if name else "$"

    def _name(self) -> str:
        match = _NAME.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match.group()

    def _braced(self) -> str:
        name = self._name()
        operator = self.text[self.at : self.at + 1]
        if not name or not operator:
            raise SpecError(f"syntax error: bad substitution in {self.text!r}")
        self.at += 1
        if operator == "}":
            return self.variables.get(name, "")
        if operator in "#%":
            return self._strip(name, operator)
        if operator == "/":
            return self._replace(name)
        return self._default(name, operator)

    def _nested(self, stop: str) -> str:
        self.depth += 1
        if self.depth > _DEPTH_MAX:
            raise SpecError(f"substitutions are nested more than {_DEPTH_MAX} deep")
        found = self.until(stop)
        self.depth -= 1
        return found

    def _default(self, name: str, operator: str) -> str:
        colon = operator == ":"
        if colon:
            operator = self.text[self.at : self.at + 1]
            self.at += 1
        if operator not in ("-", "+", "?"):
            raise SpecError(f"unsupported modifier ({operator}) in substitution of {name} in {self.text!r}")
        word = self._nested("}")
        value = self.variables.get(name)
        present = bool(value) if colon else value is not None
        if operator == "+":
            return word if present else ""
        if not present and operator == "?":
            raise SpecError(f"{name}: {word or ('not allowed to be empty' if colon else 'not allowed to be unset')}")
        return (value or "") if present else word

    def _again(self, char: str) -> bool:
        if self.text[self.at : self.at + 1] != char:
            return False
        self.at += 1
        return True

    def _strip(self, name: str, operator: str) -> str:
        longest = self._again(operator)
        pattern = re.compile(_glob(self._nested("}")), re.DOTALL)
        value = self.variables.get(name, "")
        lengths = range(len(value), -1, -1) if longest else range(len(value) + 1)
        for length in lengths:
            cut = length if operator == "#" else len(value) - length
            head, tail = value[:cut], value[cut:]
            if pattern.fullmatch(head if operator == "#" else tail):
                return tail if operator == "#" else head
        return value

    def _replace(self, name: str) -> str:
        everywhere = self._again("/")
        pattern = self._nested("/")
        replacement = self._nested("}")
        value = self.variables.get(name, "")
        if not pattern:
            return value
        return re.sub(_glob(pattern), lambda _: replacement, value, count=0 if everywhere else 1, flags=re.DOTALL)


def _glob(pattern: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in pattern)
