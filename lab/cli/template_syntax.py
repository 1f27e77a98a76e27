"""The text of a Go template -> a tree: lexer and parser of the subset that ``gotemplate`` documents; pure.

Source: https://pkg.go.dev/text/template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from lab.errors import TemplateError


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Text between actions, written as it is."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """What all operands know: their own source text, and where in the template they begin."""

    source: str
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Operand):
    """A constant; ``value`` is None for ``nil``."""

    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Operand):
    """A function by its name; its arguments are the rest of the command."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Path(Operand):
    """``start`` and the names that follow it with dots: None is the dot itself, else a variable or a pipeline."""

    start: str | Pipeline | None
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An operand with its arguments."""

    operands: tuple[Operand, ...]

    @property
    def source(self) -> str:
        """The command as Go writes it in errors."""
        return " ".join(operand.source for operand in self.operands)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """Commands, each given the result of the one before; ``variables`` get the last one, new ones if ``declares``."""

    commands: tuple[Command, ...]
    variables: tuple[str, ...] = ()
    declares: bool = False

    @property
    def source(self) -> str:
        """The pipeline as Go writes it in errors, without its variables."""
        return " | ".join(command.source for command in self.commands)


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A pipeline whose result is written, unless it goes to a variable."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """``if``, ``with`` or ``range``: two lists, of which the result of the pipeline chooses."""

    kind: str
    pipeline: Pipeline
    body: tuple[Node, ...]
    otherwise: tuple[Node, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """``break`` or ``continue``."""

    kind: str


Node = Text | Action | Block | Jump

_BLOCKS = ("if", "with", "range")
_MISSING = ("define", "template", "block", "call", "js")  # Go has them, the subset does not
_CONSTANTS: dict[str, bool | None] = {"true": True, "false": False, "nil": None}
_DECLARED_MAX = {"range": 2}
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<raw>`[^`]*`)
      | (?P<character>'(?:[^'\\\n]|\\.[0-9a-fA-F]*)')
      | (?P<number>[+-]?(?:[0-9]|\.[0-9])(?:[eE][+-]?[0-9]|[\w.])*)
      | (?P<field>\.[^\W\d]\w*)
      | (?P<variable>\$\w*)
      | (?P<word>[^\W\d]\w*)
      | (?P<dot>\.)
      | (?P<becomes>:=)
      | (?P<mark>[|(),=])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\'\"])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3}))")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_COMMENT = re.compile(r"\{\{(?:-\s+)?/\*.*?\*/(?:\s+-)?\}\}", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    kind: str
    text: str
    position: int


def parse_nodes(source: str, functions: frozenset[str]) -> tuple[Node, ...]:
    """Return the tree of a template whose functions are those.

    Raises:
        TemplateError: with docker's words.
    """
    return _Parser(source, functions).template()


class _Parser:
    """Reads pieces (text, or an action's tokens) from first to last; never backwards."""

    def __init__(self, source: str, functions: frozenset[str]) -> None:
        self._source = source
        self._functions = functions
        self._pieces = _pieces(source)
        self._next = 0
        self._variables: list[str] = ["$"]
        self._loops = 0

    def template(self) -> tuple[Node, ...]:
        nodes, end = self._nodes()
        if end is not None:
            _fail(self._source, end.position, f"unexpected {{{{{end.text}}}}}")
        return nodes

    def _nodes(self) -> tuple[tuple[Node, ...], _Token | None]:
        """Return the nodes up to the end of the list, and the ``end`` or ``else`` that ended it."""
        nodes: list[Node] = []
        while self._next < len(self._pieces):
            piece = self._pieces[self._next]
            if isinstance(piece, str):
                self._next += 1
                nodes.append(Text(text=piece))
                continue
            if piece.is_word("end", "else"):
                return tuple(nodes), piece.peek()
            self._next += 1
            nodes.append(self._action(piece))
        return tuple(nodes), None

    def _action(self, piece: _Piece) -> Node:
        first = piece.peek()
        if first.kind != "word" or first.text not in (*_BLOCKS, "break", "continue"):
            return Action(pipeline=self._pipeline(piece, "command"))
        piece.take()
        if first.text in _BLOCKS:
            return self._block(first.text, piece)
        if not self._loops:
            piece.fail(f"{{{{{first.text}}}}} outside {{{{range}}}}")
        return Jump(kind=first.text)

    def _block(self, kind: str, piece: _Piece) -> Block:
        known = len(self._variables)
        pipeline = self._pipeline(piece, kind)
        self._loops += kind == "range"
        body, end = self._nodes()
        self._loops -= kind == "range"
        otherwise = self._otherwise(end, piece)
        del self._variables[known:]
        return Block(kind=kind, pipeline=pipeline, body=body, otherwise=otherwise)

    def _otherwise(self, end: _Token | None, opening: _Piece) -> tuple[Node, ...]:
        if end is None:
            opening.fail("unexpected EOF", at_end=True)
        piece = self._pieces[self._next]
        assert isinstance(piece, _Piece), "a token came from it"
        self._next += 1
        piece.take()
        if end.text == "end":
            return ()
        if piece.is_word("if", "with"):  # {{else if x}} is an if inside the else, with one end for both
            return (self._block(piece.take().text, piece),)
        nodes, end = self._nodes()
        if end is None:
            piece.fail("unexpected EOF", at_end=True)
        if end.text == "else":
            piece.fail("expected end; found {{else}}")
        self._next += 1
        return nodes

    def _pipeline(self, piece: _Piece, context: str, *, closing: str = "") -> Pipeline:
        variables, declares = self._declarations(piece, context)
        commands = [self._command(piece, context, closing)]
        while piece.peek().text == "|" and piece.peek().kind == "mark":
            piece.take()
            if piece.at_end():
                break
            commands.append(self._command(piece, context, closing))
            if not isinstance(commands[-1].operands[0], (Call, Path)):
                piece.fail(f"non executable command in pipeline stage {len(commands)}")
        if closing:
            self._close(piece)
        elif not piece.at_end():
            _unexpected(piece, context)
        self._variables += variables if declares else ()
        return Pipeline(commands=tuple(commands), variables=variables, declares=declares)

    def _close(self, piece: _Piece) -> None:
        if piece.peek().text != ")":
            piece.fail("unclosed left paren")
        piece.take()

    def _declarations(self, piece: _Piece, context: str) -> tuple[tuple[str, ...], bool]:
        count = piece.declared()
        if not count:
            return (), False
        names = tuple(token.text for token in piece.skip_declared() if token.kind == "variable")
        declares = piece.take().kind == "becomes"
        if count > _DECLARED_MAX.get(context, 1):
            piece.fail(f"too many declarations in {context}")
        if not declares:
            for name in names:
                self._known(piece, name)
        return names, declares

    def _command(self, piece: _Piece, context: str, closing: str) -> Command:
        operands = []
        while not piece.at_end() and piece.peek().text not in ("|", closing):
            operands.append(self._operand(piece, context))
            if not (piece.at_end() or piece.spaced() or piece.peek().text in ("|", ")")):
                _unexpected(piece, "operand")
        if not operands:
            piece.fail(f"missing value for {context}")
        return Command(operands=tuple(operands))

    def _operand(self, piece: _Piece, context: str) -> Operand:
        token = piece.take()
        if token.kind == "field":
            return self._path(piece, None, token, (token.text[1:],))
        if token.kind == "dot":
            return self._path(piece, None, token, ())
        if token.kind == "variable":
            self._known(piece, token.text)
            return self._path(piece, token.text, token, ())
        if token.text == "(" and token.kind == "mark":
            inner = self._pipeline(piece, "parenthesized pipeline", closing=")")
            return self._path(piece, inner, token, ())
        if token.kind == "word":
            return self._word(piece, token)
        if token.kind in _LITERALS:
            return Literal(value=_LITERALS[token.kind](piece, token), source=token.text, position=token.position)
        if token.text == ")":
            piece.fail("unexpected right paren")
        return piece.fail(f'unexpected "{token.text}" in {context}')

    def _path(self, piece: _Piece, start: str | Pipeline | None, first: _Token, names: tuple[str, ...]) -> Path:
        position = first.position
        while not piece.at_end() and piece.peek().kind == "field" and not piece.spaced():
            token = piece.take()
            # Go points at the first field that follows; of `.A.B.C` at `.B`
            position = token.position if position == first.position else position
            names = (*names, token.text[1:])
        head = f"({start.source})" if isinstance(start, Pipeline) else start or ""
        source = head + "".join(f".{name}" for name in names)
        return Path(start=start, names=names, source=source or ".", position=position)

    def _word(self, piece: _Piece, token: _Token) -> Operand:
        if token.text in _CONSTANTS:
            return Literal(value=_CONSTANTS[token.text], source=token.text, position=token.position)
        if token.text in _MISSING:
            piece.fail(f"{token.text} is not part of the lab's templates")
        if token.text not in self._functions:
            piece.fail(f'function "{token.text}" not defined')
        return Call(name=token.text, source=token.text, position=token.position)

    def _known(self, piece: _Piece, name: str) -> None:
        if name not in self._variables:
            piece.fail(f'undefined variable "{name}"')


class _Piece:
    """The tokens of one action, read from first to last."""

    def __init__(self, source: str, tokens: Sequence[_Token], end: int) -> None:
        self._source = source
        self._tokens = [token for token in tokens if token.kind != "space"]
        self._spaces = {token.position + len(token.text) for token in tokens if token.kind == "space"}
        self._end = _Token(kind="end", text="", position=end)
        self._next = 0

    def at_end(self) -> bool:
        return self._next >= len(self._tokens)

    def peek(self) -> _Token:
        return self._end if self.at_end() else self._tokens[self._next]

    def take(self) -> _Token:
        token = self.peek()
        self._next += 1
        return token

    def is_word(self, *words: str) -> bool:
        return self.peek().kind == "word" and self.peek().text in words

    def spaced(self) -> bool:
        """Return whether there is space before the next token."""
        return self.peek().position in self._spaces

    def declared(self) -> int:
        """Return how many variables get a value at the beginning of what is left, 0 if it begins otherwise."""
        rest = self._tokens[self._next :]
        for index, token in enumerate(rest):
            if index % 2 == 0 and token.kind != "variable":
                return 0
            if index % 2 == 1 and token.text != ",":
                return (index + 1) // 2 if token.text in (":=", "=") else 0
        return 0

    def skip_declared(self) -> list[_Token]:
        """Return the tokens before the mark of assignment, and go there."""
        begin = self._next
        while self._tokens[self._next].text not in (":=", "="):
            self._next += 1
        return self._tokens[begin : self._next]

    def fail(self, reason: str, *, at_end: bool = False) -> NoReturn:
        _fail(self._source, len(self._source) if at_end else self.peek().position, reason)


def _fail(source: str, position: int, reason: str) -> NoReturn:
    line = source.count("\n", 0, position) + 1
    raise TemplateError(f"template parsing error: template: :{line}: {reason}")


def _unexpected(piece: _Piece, context: str) -> NoReturn:
    token = piece.peek()
    if token.text == ")":
        piece.fail("unexpected right paren")
    piece.fail(f"unexpected <{token.text}> in {context}")


def _pieces(source: str) -> list[str | _Piece]:
    """Return text and actions in turn, comments left out, spaces trimmed where ``{{-`` and ``-}}`` ask for it."""
    found: list[str | _Piece] = []
    position, trim = 0, False
    while (begin := source.find("{{", position)) >= 0:
        trims_left = _opens_trimming(source, begin)
        found.append(_trimmed(source[position:begin], left=trim, right=trims_left))
        comment = _COMMENT.match(source, begin)
        if comment is None:
            piece, position, trim = _lex(source, begin + (3 if trims_left else 2))
            found.append(piece)
        else:
            position, trim = comment.end(), comment[0].endswith("-}}")
    found.append(_trimmed(source[position:], left=trim, right=False))
    return [piece for piece in found if piece != ""]


def _opens_trimming(source: str, begin: int) -> bool:
    return source.startswith("{{-", begin) and source[begin + 3 : begin + 4].isspace()


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip() if left else text
    return text.rstrip() if right else text


def _lex(source: str, position: int) -> tuple[_Piece, int, bool]:
    """Return an action's tokens, where it ends, and whether it trims what follows."""
    tokens: list[_Token] = []
    while not source.startswith("}}", position):
        if source.startswith("-}}", position) and tokens and tokens[-1].kind == "space":
            return _Piece(source, tokens, position), position + 3, True
        match = _TOKEN.match(source, position)
        if match is None:
            _fail(source, position, _bad_character(source, position))
        tokens.append(_Token(kind=str(match.lastgroup), text=match[0], position=position))
        position = match.end()
    return _Piece(source, tokens, position), position + 2, False


def _bad_character(source: str, position: int) -> str:
    if position >= len(source):
        return "unclosed action"
    character = source[position]
    if character in "\"'":
        return "unterminated quoted string" if character == '"' else "unterminated character constant"
    if character == "`":
        return "unterminated raw quoted string"
    return f"bad character U+{ord(character):04X} '{character}'"


def _unquoted(piece: _Piece, token: _Token) -> str:
    inner = token.text[1:-1]
    if "\\" in _ESCAPE.sub("", inner):
        piece.fail("invalid syntax")
    return _ESCAPE.sub(_character, inner)


def _character(match: re.Match[str]) -> str:
    plain, *numbers, octal = match.groups()
    if plain:
        return _ESCAPED.get(plain, plain)
    return chr(int(octal, 8)) if octal else chr(int(next(number for number in numbers if number), 16))


def _number(piece: _Piece, token: _Token) -> int | float:
    text = token.text.replace("_", "")
    for read in (lambda: int(text, 0), lambda: int(text, 8), lambda: float(text)):
        try:
            return read()
        except ValueError:
            continue
    return piece.fail(f'bad number syntax: "{token.text}"')


_LITERALS = {
    "string": _unquoted,
    "raw": lambda _, token: token.text[1:-1],
    "character": lambda piece, token: ord(_unquoted(piece, token)),
    "number": _number,
}
