"""`lab events`: what happens to containers and images, and what has happened."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

from lab.cli import gotemplate, output
from lab.cli.list_flags import add_filter
from lab.cli.template_values import Value, encoded
from lab.container import event_stream
from lab.container.event_stream import Event, EventFile
from lab.container.image.filters import parse_filters, until_ns
from lab.errors import EXIT_OK, ContainerError, SpecError
from lab.paths import Paths


def add_events(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `events`."""
    add = parser.add_argument
    add_filter(parser, "-f", names="container, event, image, label, type, …")
    add("--format", metavar="FORMAT", default="", help="'json' or TEMPLATE, in docker's templates")
    add(
        "--since", metavar="TIME", default="", help="also what has happened since: 2026-01-02T13:23:37Z, or 10m for ago"
    )
    add("--until", metavar="TIME", default="", help="end at this time")


def events(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show events, as they happen unless --until is past."""
    now_ns = time.time_ns()
    since, until = (_instant_ns(text, now_ns) for text in (arguments.since, arguments.until))
    holds = event_stream.conditions(parse_filters(arguments.filter, event_stream.FILTERS))
    show = _shower(arguments.format)
    with EventFile(paths.run, only_new=since is None) as file:
        for event in file.follow(until):
            if (since is None or event.time_ns >= since) and all(condition(event) for condition in holds):
                output.line(show(event))
                sys.stdout.flush()
    return EXIT_OK


def _instant_ns(text: str, now_ns: int) -> int | None:
    if not text:
        return None
    try:
        return until_ns(text, now_ns)
    except ContainerError:
        raise SpecError(f'failed to parse value as time or duration: "{text}"', hint="such as 10m") from None


def _shower(text: str) -> Callable[[Event], str]:
    if not text:
        return event_stream.shown
    if text in (gotemplate.JSON, "{{json .}}"):
        return lambda event: encoded(event.document())
    template = gotemplate.parse(text)
    return lambda event: template.render(_row(event))


def _row(event: Event) -> dict[str, Value]:
    """Return an event under the names that docker's templates have for it."""
    document = event.document()
    return {
        "Status": document.get("status", ""),
        "ID": document.get("id", ""),
        "From": document.get("from", ""),
        "Type": event.kind,
        "Action": event.action,
        "Actor": {"ID": event.actor_id, "Attributes": dict(event.attributes)},
        "Scope": "local",
        "Time": document["time"],
        "TimeNano": event.time_ns,
    }
