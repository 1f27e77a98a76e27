"""The text of a Dockerfile as a sequence of instructions, each with its place in the file.

This is the first of two passes: lines, continuations, here-documents, directives and flags. What the arguments mean is
said by ``instructions``. Variables are not expanded.
Source: https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lab.container.image.lexer import expand, raw_words
from lab.errors import DockerfileError, SpecError


class Keyword(StrEnum):
    """The instructions."""

    ADD = "ADD"
    ARG = "ARG"
    CMD = "CMD"
    COPY = "COPY"
    ENTRYPOINT = "ENTRYPOINT"
    ENV = "ENV"
    EXPOSE = "EXPOSE"
    FROM = "FROM"
    HEALTHCHECK = "HEALTHCHECK"
    LABEL = "LABEL"
    MAINTAINER = "MAINTAINER"
    ONBUILD = "ONBUILD"
    RUN = "RUN"
    SHELL = "SHELL"
    STOPSIGNAL = "STOPSIGNAL"
    USER = "USER"
    VOLUME = "VOLUME"
    WORKDIR = "WORKDIR"


FLAGS: Mapping[Keyword, tuple[str, ...]] = {
    Keyword.FROM: ("platform",),
    Keyword.RUN: ("mount", "network", "security"),
    Keyword.ADD: ("chown", "chmod", "checksum", "keep-git-dir", "link", "exclude"),
    Keyword.COPY: ("from", "chown", "chmod", "link", "parents", "exclude"),
    Keyword.HEALTHCHECK: ("interval", "timeout", "start-period", "start-interval", "retries"),
}
_SWITCHES = {"keep-git-dir", "link", "parents"}
_HEREDOC_KEYWORDS = {Keyword.RUN, Keyword.COPY, Keyword.ADD}
_EXEC_FORMS = {Keyword.RUN, Keyword.CMD, Keyword.ENTRYPOINT, Keyword.SHELL, Keyword.VOLUME, Keyword.COPY, Keyword.ADD}
_DIRECTIVE = re.compile(r"#[ \t]*([A-Za-z][A-Za-z0-9]*)[ \t]*=[ \t]*(.*?)[ \t]*")
_HEREDOC = re.compile(r"[0-9]*<<(-?)([^<]*)")  # a whole word: not $((1<<x)), not <<<text
_FLAG = re.compile(r"--([A-Za-z][A-Za-z0-9-]*)(?:=(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """One here-document as written.

    ``expand`` says that its name was not quoted, ``chomp`` that ``<<-`` takes leading tabs away.
    """

    name: str
    lines: tuple[str, ...]
    expand: bool = True
    chomp: bool = False

    @property
    def content(self) -> str:
        """Its text, leading tabs taken away where asked."""
        return "".join(f"{line.lstrip(chr(9)) if self.chomp else line}\n" for line in self.lines)

    @property
    def source(self) -> str:
        """Its text and its end as they stand in the file."""
        return "\n".join((*self.lines, self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class HeredocWord:
    """The word that announces a here-document."""

    name: str
    chomp: bool
    expand: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an instruction begins, 1-based, and the escape character that holds there."""

    path: str
    line: int
    escape: str = "\\"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One instruction as written; ``words`` is set for the exec (JSON) form, lines are 1-based and inclusive."""

    keyword: Keyword
    arguments: str
    path: str
    first_line: int
    last_line: int
    original: str
    flags: tuple[tuple[str, str], ...] = ()
    words: tuple[str, ...] | None = None
    heredocs: tuple[Heredoc, ...] = ()
    escape: str = "\\"

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(path=self.path, line=self.first_line, escape=self.escape)

    def values(self, flag: str) -> tuple[str, ...]:
        """Return the values that a flag was given, in order."""
        return tuple(value for name, value in self.flags if name == flag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A parsed file: its parser directives, its escape character and its instructions."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    directives: Mapping[str, str] = field(default_factory=dict)


def parse_dockerfile(text: str, *, path: str = "Dockerfile") -> Dockerfile:
    """Return the instructions in ``text``.

    Raises:
        DockerfileError: the text is not a Dockerfile; carries ``path`` and the 1-based line.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    directives = _directives(lines, path)
    escape = directives.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise DockerfileError(f"invalid escape token {escape!r}: it is \\ or `", path=path, line=1)
    found = _Lines(lines, path, escape).instructions()
    if not found:
        raise DockerfileError("file with no instructions", path=path)
    _check_stages(found)
    return Dockerfile(instructions=found, escape=escape, directives=directives)


def parse_lines(text: str, *, path: str, escape: str, first_line: int = 1) -> tuple[Instruction, ...]:
    """Return the instructions in a part of a file, which needs no FROM and has no directives.

    Raises:
        DockerfileError: the text is not a Dockerfile's.
    """
    return _Lines(text.split("\n"), path, escape, first_line).instructions()


def _directives(lines: list[str], path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match.group(1).lower() if match else ""
        if match is None or name not in ("syntax", "escape", "check"):
            break  # directives stop at the first line that is none
        if name in found:
            raise DockerfileError(f"only one {name} parser directive can be used", path=path, line=number)
        found[name] = match.group(2)
    return found


class _Lines:
    """A cursor over the lines of one file."""

    def __init__(self, lines: list[str], path: str, escape: str, first_line: int = 1) -> None:
        self.lines, self.path, self.escape, self.first_line, self.at = lines, path, escape, first_line, 0
        self.continued = re.compile(re.escape(escape) + r"[ \t]*$")

    def instructions(self) -> tuple[Instruction, ...]:
        found: list[Instruction] = []
        while self.at < len(self.lines):
            if _is_idle(self.lines[self.at]):
                self.at += 1
            else:
                found.append(self._instruction())
        return tuple(found)

    def _instruction(self) -> Instruction:
        start = self.at
        logical = self._logical().strip()
        name, *rest = logical.split(None, 1) or [""]  # a lone escape before the end of the file
        keyword = keyword_of(name, self.path, start + self.first_line)
        flags, arguments = _flags(keyword, rest[0] if rest else "", self._place(start))
        words = _exec_form(arguments, self._place(start)) if keyword in _EXEC_FORMS else None
        heredocs: tuple[Heredoc, ...] = ()
        if words is None and _takes_heredoc(keyword, arguments):
            found = heredoc_words(arguments, self._place(start))
            heredocs = tuple(self._heredoc(word, start + self.first_line) for word in found)
        return Instruction(
            keyword=keyword,
            arguments=arguments,
            path=self.path,
            first_line=start + self.first_line,
            last_line=self.at + self.first_line - 1,
            original="\n".join(self.lines[start : self.at]),
            flags=flags,
            words=words,
            heredocs=heredocs,
            escape=self.escape,
        )

    def _place(self, start: int) -> Place:
        return Place(path=self.path, line=start + self.first_line, escape=self.escape)

    def _logical(self) -> str:
        parts: list[str] = []
        while self.at < len(self.lines):
            line = self.lines[self.at]
            self.at += 1
            if parts and _is_idle(line):
                continue  # comments and empty lines inside an instruction vanish
            match = self.continued.search(line)
            parts.append(line[: match.start()] if match else line)
            if match is None:
                break
        return "".join(parts)

    def _heredoc(self, word: HeredocWord, line: int) -> Heredoc:
        body: list[str] = []
        while self.at < len(self.lines):
            text = self.lines[self.at]
            self.at += 1
            if (text.lstrip("\t") if word.chomp else text) == word.name:
                return Heredoc(name=word.name, lines=tuple(body), expand=word.expand, chomp=word.chomp)
            body.append(text)
        raise DockerfileError(f"unterminated heredoc {word.name!r}", path=self.path, line=line)


def heredoc_words(text: str, place: Place) -> tuple[HeredocWord, ...]:
    """Return the here-documents that the words of ``text`` announce, in order; one inside quotes is none.

    Raises:
        DockerfileError: a quote in a name is not closed.
    """
    words = list(raw_words(text, escape=place.escape))
    found: list[HeredocWord] = []
    for at, word in enumerate(words):
        match = _HEREDOC.fullmatch(word)
        if match is None:
            continue
        name = match[2] or (words[at + 1] if at + 1 < len(words) else "")  # "<< EOF" is two words
        if name:
            found.append(_heredoc_word(name, place, chomp=bool(match[1])))
    return tuple(found)


def _heredoc_word(name: str, place: Place, *, chomp: bool) -> HeredocWord:
    quoted = any(char in re.sub(re.escape(place.escape) + ".", "", name) for char in "'\"")
    try:
        plain = expand(name.replace("$", place.escape + "$"), {}, escape=place.escape)
    except SpecError as error:
        raise DockerfileError(str(error), path=place.path, line=place.line) from error
    return HeredocWord(name=plain, chomp=chomp, expand=not quoted)


def _is_idle(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped.startswith("#")


def keyword_of(name: str, path: str, line: int) -> Keyword:
    """Return the instruction called ``name``, in whatever case.

    Raises:
        DockerfileError: there is none.
    """
    if name.upper() in Keyword.__members__:
        return Keyword(name.upper())
    hint = _guess(name.upper(), list(Keyword))
    raise DockerfileError(f"unknown instruction: {name}", path=path, line=line, hint=hint)


def _guess(name: str, known: list[str] | list[Keyword]) -> str:
    near = difflib.get_close_matches(name, [str(each) for each in known], n=1)
    return f"did you mean {near[0]}?" if near else ""


def _takes_heredoc(keyword: Keyword, arguments: str) -> bool:
    inner = arguments.split(None, 1)[0].upper() if keyword is Keyword.ONBUILD and arguments else keyword
    return inner in _HEREDOC_KEYWORDS


def _flags(keyword: Keyword, arguments: str, place: Place) -> tuple[tuple[tuple[str, str], ...], str]:
    known, found = FLAGS.get(keyword, ()), []
    while arguments.startswith("--") and keyword is not Keyword.ONBUILD:  # its trigger has flags of its own
        word = raw_words(arguments, escape=place.escape)[0]
        match = _FLAG.fullmatch(word)
        if match is None:
            break
        found.append(_flag(match, known, place))
        arguments = arguments[len(word) :].lstrip()
    return tuple(found), arguments


def _flag(match: re.Match[str], known: tuple[str, ...], place: Place) -> tuple[str, str]:
    name, value = match.groups()
    if name not in known:
        raise DockerfileError(
            f"unknown flag: --{name}", path=place.path, line=place.line, hint=_guess(name, list(known))
        )
    if value is None and name not in _SWITCHES:
        raise DockerfileError(f"missing a value on flag: --{name}", path=place.path, line=place.line)
    if name in _SWITCHES and value not in (None, "true", "false"):
        raise DockerfileError(
            f"expecting boolean value for flag {name}, not: {value}", path=place.path, line=place.line
        )
    return name, "true" if value is None else value


def _exec_form(arguments: str, place: Place) -> tuple[str, ...] | None:
    if not arguments.startswith("["):
        return None
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return None  # not JSON: it is the shell form, as in [ -f x ] && y
    if not all(isinstance(word, str) for word in found):
        raise DockerfileError(
            "when using JSON array syntax, arrays must be comprised of strings only", path=place.path, line=place.line
        )
    return tuple(found)


def stage_name(instruction: Instruction) -> str:
    """Return the lower-case name that a ``FROM … AS name`` gives its stage, or "".

    Raises:
        DockerfileError: FROM has neither one nor three arguments, or the name is malformed.
    """
    words, place = instruction.arguments.split(), instruction.place
    if len(words) == 1:
        return ""
    if len(words) != 3 or words[1].lower() != "as":
        raise DockerfileError("FROM requires either one or three arguments", path=place.path, line=place.line)
    if not re.fullmatch(r"[a-z][a-z0-9-_.]*", words[2].lower()):
        message = f"invalid name for build stage: {words[2]!r}: it begins with a letter and has no symbols but - _ ."
        raise DockerfileError(message, path=place.path, line=place.line)
    return words[2].lower()


def _check_stages(instructions: tuple[Instruction, ...]) -> None:
    names: dict[str, int] = {}
    begun = False
    for each in instructions:
        if each.keyword is not Keyword.FROM:
            if not begun and each.keyword is not Keyword.ARG:
                raise DockerfileError("no build stage in current context", path=each.path, line=each.first_line)
            continue
        begun = True
        name = stage_name(each)
        if name and name in names:
            message = f"duplicate name {name}, first given on line {names[name]}"
            raise DockerfileError(message, path=each.path, line=each.first_line)
        names[name] = each.first_line
    if not begun:
        last = instructions[-1]
        raise DockerfileError("no build stage: FROM is missing", path=last.path, line=last.first_line)
