"""The text of a Dockerfile as a sequence of instructions, each with its place in the file.

This is the first of two passes: lines, continuations, here-documents, directives and flags. Variables are not expanded.
Source: https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from lab.errors import SpecError


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
_HEREDOC = re.compile(r"(?<!\S)[0-9]*<<(-?)(['\"]?)([A-Za-z_][A-Za-z0-9_.]*)\2(?!\S)")  # a whole word, not $((1<<x))
_FLAG = re.compile(r"--([A-Za-z][A-Za-z0-9-]*)(?:=(\S*))?(?:\s+|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heredoc:
    """One here-document: its name, its text, and whether variables in it are expanded (the name was not quoted)."""

    name: str
    content: str
    expand: bool


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dockerfile:
    """A parsed file: its parser directives, its escape character and its instructions."""

    instructions: tuple[Instruction, ...]
    escape: str = "\\"
    directives: Mapping[str, str] = field(default_factory=dict)


def parse_dockerfile(text: str, *, path: str = "Dockerfile") -> Dockerfile:
    """Return the instructions in ``text``.

    Raises:
        SpecError: the text is not a Dockerfile; carries ``path`` and the 1-based line.
    """
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    directives = _directives(lines, path)
    escape = directives.get("escape", "\\")
    if escape not in ("\\", "`"):
        raise SpecError(f"invalid escape token {escape!r}: it is \\ or `", path=path, line=1)
    found = _Lines(lines, path, escape).instructions()
    if not found:
        raise SpecError("file with no instructions", path=path)
    _check_stages(found)
    return Dockerfile(instructions=found, escape=escape, directives=directives)


def _directives(lines: list[str], path: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.fullmatch(line.strip())
        name = match.group(1).lower() if match else ""
        if match is None or name not in ("syntax", "escape", "check"):
            break  # directives stop at the first line that is none
        if name in found:
            raise SpecError(f"only one {name} parser directive can be used", path=path, line=number)
        found[name] = match.group(2)
    return found


class _Lines:
    """A cursor over the lines of one file."""

    def __init__(self, lines: list[str], path: str, escape: str) -> None:
        self.lines, self.path, self.at = lines, path, 0
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
        keyword = _keyword(name, self.path, start + 1)
        arguments = rest[0] if rest else ""
        heredocs: tuple[Heredoc, ...] = ()
        if _takes_heredoc(keyword, arguments):
            heredocs = tuple(self._heredoc(match, start + 1) for match in _HEREDOC.finditer(arguments))
        flags, arguments = _flags(keyword, arguments, self.path, start + 1)
        _check_arguments(keyword, arguments, self.path, start + 1)
        return Instruction(
            keyword=keyword,
            arguments=arguments,
            path=self.path,
            first_line=start + 1,
            last_line=self.at,
            original="\n".join(self.lines[start : self.at]),
            flags=flags,
            words=_exec_form(arguments) if keyword in _EXEC_FORMS else None,
            heredocs=heredocs,
        )

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

    def _heredoc(self, match: re.Match[str], line: int) -> Heredoc:
        dash, quote, name = match.groups()
        body: list[str] = []
        while self.at < len(self.lines):
            text = self.lines[self.at].lstrip("\t") if dash else self.lines[self.at]
            self.at += 1
            if text == name:
                return Heredoc(name=name, content="".join(f"{each}\n" for each in body), expand=not quote)
            body.append(text)
        raise SpecError(f"unterminated heredoc {name!r}", path=self.path, line=line)


def _is_idle(line: str) -> bool:
    stripped = line.strip()
    return not stripped or stripped.startswith("#")


def _keyword(name: str, path: str, line: int) -> Keyword:
    if name.upper() in Keyword.__members__:
        return Keyword(name.upper())
    raise SpecError(f"unknown instruction: {name}", path=path, line=line, hint=_guess(name.upper(), list(Keyword)))


def _guess(name: str, known: list[str] | list[Keyword]) -> str:
    near = difflib.get_close_matches(name, [str(each) for each in known], n=1)
    return f"did you mean {near[0]}?" if near else ""


def _takes_heredoc(keyword: Keyword, arguments: str) -> bool:
    inner = arguments.split(None, 1)[0].upper() if keyword is Keyword.ONBUILD and arguments else keyword
    return inner in _HEREDOC_KEYWORDS and _exec_form(arguments) is None


def _flags(keyword: Keyword, arguments: str, path: str, line: int) -> tuple[tuple[tuple[str, str], ...], str]:
    known, found = FLAGS.get(keyword, ()), []
    while known and (match := _FLAG.match(arguments)):
        name, value = match.groups()
        if name not in known:
            raise SpecError(f"unknown flag: --{name}", path=path, line=line, hint=_guess(name, list(known)))
        if value is None and name not in _SWITCHES:
            raise SpecError(f"missing a value on flag: --{name}", path=path, line=line)
        if name == "mount" and "type=ssh" in (value or "").split(","):
            raise SpecError("--mount=type=ssh is not supported", path=path, line=line, hint="use type=secret")
        found.append((name, "true" if value is None else value))
        arguments = arguments[match.end() :]
    return tuple(found), arguments


def _check_arguments(keyword: Keyword, arguments: str, path: str, line: int) -> None:
    if not arguments and keyword not in (Keyword.CMD, Keyword.ENTRYPOINT, Keyword.RUN):
        raise SpecError(f"{keyword} requires at least one argument", path=path, line=line)
    if keyword is Keyword.SHELL and not _exec_form(arguments):
        raise SpecError("SHELL requires the arguments to be in JSON form", path=path, line=line)
    if keyword is Keyword.ONBUILD:
        trigger = _keyword(arguments.split(None, 1)[0], path, line)
        if trigger in (Keyword.ONBUILD, Keyword.FROM, Keyword.MAINTAINER):
            raise SpecError(f"{trigger} isn't allowed as an ONBUILD trigger", path=path, line=line)


def _exec_form(arguments: str) -> tuple[str, ...] | None:
    if not arguments.startswith("["):
        return None
    try:
        found = json.loads(arguments)
    except (ValueError, RecursionError):
        return None  # not JSON: it is the shell form, as in [ -f x ] && y
    return tuple(found) if all(isinstance(word, str) for word in found) else None


def stage_name(instruction: Instruction) -> str:
    """Return the lower-case name that a ``FROM … AS name`` gives its stage, or "".

    Raises:
        SpecError: FROM has neither one nor three arguments, or the name is malformed.
    """
    words = instruction.arguments.split()
    if len(words) == 1:
        return ""
    if len(words) != 3 or words[1].lower() != "as":
        raise SpecError(
            "FROM requires either one or three arguments", path=instruction.path, line=instruction.first_line
        )
    if not re.fullmatch(r"[a-z][a-z0-9-_.]*", words[2].lower()):
        raise SpecError(
            f"invalid name for build stage: {words[2]!r}", path=instruction.path, line=instruction.first_line
        )
    return words[2].lower()


def _check_stages(instructions: tuple[Instruction, ...]) -> None:
    names: dict[str, int] = {}
    begun = False
    for each in instructions:
        if each.keyword is not Keyword.FROM:
            if not begun and each.keyword is not Keyword.ARG:
                raise SpecError("no build stage in current context", path=each.path, line=each.first_line)
            continue
        begun = True
        name = stage_name(each)
        if name and name in names:
            message = f"duplicate name {name}, first given on line {names[name]}"
            raise SpecError(message, path=each.path, line=each.first_line)
        names[name] = each.first_line
    if not begun:
        raise SpecError("no build stage: FROM is missing", path=instructions[-1].path, line=instructions[-1].first_line)
