"""`lab logs`: what a container has written."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterable

from lab.container import following
from lab.container import logs as reading
from lab.container.containers import Containers
from lab.container.image.filters import until_ns
from lab.errors import EXIT_OK, ContainerError, SpecError
from lab.paths import Paths

_STDOUT, _STDERR = 1, 2


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `logs`."""
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on with what comes, until the container ends")
    add("-n", "--tail", metavar="N", default="all", help="only the last N lines (default: all)")
    add("--since", metavar="TIME", default="", help="only from this time on: 2026-01-02T13:23:37Z, or 10m for ago")
    add("--until", metavar="TIME", default="", help="only until this time")
    add("-t", "--timestamps", action="store_true", help="say when each line was written")
    add("--details", action="store_true", help="put the attributes that --log-opt has asked for before each line")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def logs(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write what a container has written, each stream to our own of its kind."""
    with Containers(paths) as containers:
        container = containers.get(arguments.container)
        if container.record.options.log_driver == "none":
            raise ContainerError("configured logging driver does not support reading")
        wanted = reading.Wanted(
            tail=tail_of(arguments.tail),
            since_ns=instant_ns("since", arguments.since),
            until_ns=instant_ns("until", arguments.until),
            timestamps=arguments.timestamps,
            details="" if arguments.details else None,
        )
        with reading.Reader(container.state.bundle, wanted) as reader:
            if arguments.follow and container.is_running:
                write(following.follow(containers, container, reader, wanted))
            else:
                write(reader.pieces())
    return EXIT_OK


def write(pieces: Iterable[reading.Piece]) -> None:
    """Write pieces of output to our own streams, in their order.

    Raises:
        BrokenPipeError: nobody reads any more.
    """
    for to_error, data in pieces:
        left = memoryview(data)
        while left:
            left = left[os.write(_STDERR if to_error else _STDOUT, left) :]


def tail_of(text: str) -> int | None:
    """Return the number of lines that --tail asks for, None for all."""
    return int(text) if text.isdigit() else None  # whatever is no number is all, as docker has it


def instant_ns(name: str, text: str) -> int | None:
    """Return the time of day that a flag gives, None for "".

    Raises:
        SpecError: it is neither a time nor a duration.
    """
    if not text:
        return None
    try:
        return until_ns(text, time.time_ns())
    except ContainerError:
        reason = f'failed to parse value as time or duration: "{text}"'
        raise SpecError(f'invalid value for "{name}": {reason}', hint=f"--{name} 10m") from None
