"""Which images a list or a pruning is about: docker's ``--filter`` for images; pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lab.container import labels
from lab.container.image.reference import Reference
from lab.container.spec.image import ImageConfig
from lab.errors import ContainerError, SpecError
from lab.units import NS_PER_S, parse_duration_ns

LISTED = ("dangling", "label", "before", "since", "reference", "until")
PRUNED = ("dangling", "label", "label!", "until")
_TRUTHS = {"1": True, "true": True, "True": True, "0": False, "false": False, "False": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """What a filter can ask about an image."""

    names: tuple[Reference, ...]
    config: ImageConfig


Condition = Callable[[Listed], bool]


def parse_filters(texts: Iterable[str], known: Sequence[str]) -> dict[str, list[str]]:
    """Return the values of each filter, given as "name=value".

    Raises:
        SpecError: a text has no "=".
        ContainerError: docker does not know the filter here.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, equals, value = text.partition("!=" if re.match(r"\w+!=", text) else "=")
        if not equals:
            raise SpecError(f"bad format of filter (expected name=value): {text!r}", hint="--filter dangling=true")
        name = f"{name}!" if equals == "!=" else name.strip()
        if name not in known:
            raise ContainerError(f"Invalid filter '{name}'", hint=f"one of: {', '.join(known)}")
        found.setdefault(name, []).append(value)
    return found


def conditions(
    filters: Mapping[str, Sequence[str]], created_ns_of: Callable[[str], int], now_ns: int
) -> tuple[Condition, ...]:
    """Return what has to hold, all of it; ``created_ns_of`` looks an image up that ``before`` or ``since`` names.

    Raises:
        ContainerError: a value is not one.
    """
    found: list[Condition] = []
    for value in filters.get("dangling", ()):
        found.append(_dangling(value))
    for value in filters.get("label", ()):
        found.append(_label(value))
    for value in filters.get("label!", ()):
        found.append(_not(_label(value)))
    if "reference" in filters:
        found.append(_any_reference(filters["reference"]))
    for value in filters.get("before", ()):
        found.append(_created(before_ns=created_ns_of(value)))
    for value in filters.get("since", ()):
        found.append(_created(after_ns=created_ns_of(value)))
    for value in filters.get("until", ()):
        found.append(_created(before_ns=until_ns(value, now_ns)))
    return tuple(found)


def _dangling(value: str) -> Condition:
    if value not in _TRUTHS:
        raise ContainerError(f"Invalid filter 'dangling=[{value}]'", hint="dangling=true or dangling=false")
    if not _TRUTHS[value]:
        return lambda image: bool(image.names)
    return lambda image: all(name.digest for name in image.names)  # a name by digest alone is no tag, as in docker


def _label(text: str) -> Condition:
    return lambda image: labels.hold(image.config.config.labels, text)


def _not(condition: Condition) -> Condition:
    return lambda image: not condition(image)


def _any_reference(patterns: Sequence[str]) -> Condition:
    return lambda image: any(matches(pattern, name) for pattern in patterns for name in image.names)


def matches(pattern: str, name: Reference) -> bool:
    """Return whether docker's pattern means a name, with its tag or without; a star ends at a slash.

    Source: https://pkg.go.dev/path#Match.
    """
    expression = _expression(pattern)
    return any(expression.fullmatch(text) is not None for text in (name.familiar, name.repository))


def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.findall(r"\\.|\[[^\]]*\]|.", pattern, re.DOTALL)
    try:
        return re.compile("".join(_part(part) for part in parts), re.DOTALL)
    except re.error as error:
        raise ContainerError(f"Invalid filter 'reference={pattern}': {error}") from error


def _part(part: str) -> str:
    if part in ("*", "?"):
        return {"*": "[^/]*", "?": "[^/]"}[part]
    if len(part) > 1 and part.startswith("["):
        return _class(part[1:-1])
    return re.escape(part.removeprefix("\\") or part)


def _class(text: str) -> str:
    """Return a class of characters as a regular expression; a minus between two others makes a range."""
    negation = "^" if text.startswith("^") else ""
    items = re.findall(r"\\.|.", text.removeprefix("^"), re.DOTALL)
    last = len(items) - 1
    is_range = [
        item == "-" and 0 < at < last and "-" not in (items[at - 1], items[at + 1]) for at, item in enumerate(items)
    ]
    body = "".join(
        "-" if ranges else re.escape(item.removeprefix("\\") or item)
        for item, ranges in zip(items, is_range, strict=True)
    )
    return f"[{negation}{body}]"


def _created(*, before_ns: int | None = None, after_ns: int | None = None) -> Condition:
    def holds(image: Listed) -> bool:
        at_ns = instant_ns(image.config.created) or 0
        return (before_ns is None or at_ns < before_ns) and (after_ns is None or at_ns > after_ns)

    return holds


def instant_ns(text: str) -> int | None:
    """Return nanoseconds since the epoch of an RFC 3339 instant, None if it is none."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return int((found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp() * NS_PER_S)


def until_ns(text: str, now_ns: int) -> int:
    """Return the instant that ``until=`` means: seconds since the epoch, an instant, or a time ago ("24h").

    Raises:
        ContainerError: it is none of them.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return int(float(text) * NS_PER_S)
    if (instant := instant_ns(text)) is not None:
        return instant
    try:
        return now_ns - parse_duration_ns(text)
    except ValueError as error:
        raise ContainerError(f"Invalid filter 'until={text}': {error}", hint="until=24h") from error
