"""Which files of a build context are left out: the rules of ``.dockerignore``.

The last pattern that matches a path or one of its parent directories decides.
Source: https://docs.docker.com/build/concepts/context/#dockerignore-files.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass

from lab.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """One cleaned pattern, its expression, and whether it takes paths back in (``!``)."""

    text: str
    exception: bool
    expression: re.Pattern[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class IgnoreRules:
    """The patterns of one file, in order."""

    patterns: tuple[Pattern, ...] = ()

    def excludes(self, path: str) -> bool:
        """Return whether ``path`` (relative to the context, with ``/``) is left out."""
        parts = path.split("/")
        prefixes = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        excluded = False
        for pattern in self.patterns:
            # A pattern that would not change the verdict need not be tried.
            if pattern.exception == excluded and any(map(pattern.expression.fullmatch, prefixes)):
                excluded = not excluded
        return excluded

    def prunes(self, directory: str) -> bool:
        """Return whether nothing at or below ``directory`` can be part of the context."""
        if not self.excludes(directory):
            return False
        parts = directory.split("/")
        return not any(pattern.exception and _reaches_below(pattern.text, parts) for pattern in self.patterns)


def parse_ignore(text: str, *, path: str = ".dockerignore") -> IgnoreRules:
    """Return the rules in the text of an ignore file.

    Raises:
        SpecError: a pattern is malformed; carries the 1-based line.
    """
    found = [_pattern(line, path, number) for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1)]
    return IgnoreRules(patterns=tuple(pattern for pattern in found if pattern is not None))


def _pattern(line: str, path: str, number: int) -> Pattern | None:
    stripped = line.strip()
    if line.startswith("#") or not stripped:
        return None
    exception = stripped.startswith("!")
    body = stripped[1:].strip() if exception else stripped
    if not body:
        raise SpecError('illegal exclusion pattern: "!"', path=path, line=number)
    cleaned = posixpath.normpath(body).lstrip("/") or "/"
    try:
        return Pattern(text=cleaned, exception=exception, expression=expression(cleaned))
    except re.error as error:
        raise SpecError(f"syntax error in pattern {body!r}: {error}", path=path, line=number) from error


def expression(pattern: str) -> re.Pattern[str]:
    """Return the expression of a pattern, to be matched in full.

    Raises:
        re.error: it is malformed.
    """
    return re.compile(_translate(pattern), re.DOTALL)


_TOKEN = re.compile(r"\*\*/?|\*|\?|\[\^?\]?[^\]]*\]|\\.|.", re.DOTALL)


def _translate(pattern: str) -> str:
    return "".join(_translate_token(match.group(), match.end() == len(pattern)) for match in _TOKEN.finditer(pattern))


def _translate_token(token: str, last: bool) -> str:
    if token.startswith("**"):
        return ".*" if last else "(?:.*/)?"
    if token in ("*", "?"):
        return "[^/]*" if token == "*" else "[^/]"
    if token == "[" or token == "\\":
        raise re.error("missing closing ]" if token == "[" else "trailing backslash")
    if token.startswith("["):
        return "[" + token[1:-1].replace("[", r"\[").replace("&", r"\&").replace("~", r"\~").replace("|", r"\|") + "]"
    return re.escape(token[1:] if len(token) > 1 else token)


def _reaches_below(pattern: str, directory: list[str]) -> bool:
    parts = pattern.split("/")
    for wanted, actual in zip(parts, directory, strict=False):
        if "**" in wanted or "[" in wanted:  # either may span components: do not reason further
            return True
        if not expression(wanted).fullmatch(actual):
            return False
    return len(parts) > len(directory) or "**" in pattern
