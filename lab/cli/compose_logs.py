"""`lab compose logs`, and what an attached `up` shows: the output of several containers, each line with a name."""

from __future__ import annotations

import argparse
import functools
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

from lab.cli.compose_project import add_services, chosen, operation, project_of
from lab.cli.container_show_logs import instant_ns, tail_of
from lab.compose.existing import ExistingContainer
from lab.compose.naming import shown_name
from lab.container import following
from lab.container import logs as reading
from lab.container.containers import Container, Containers
from lab.errors import EXIT_OK, LabError, NoSuchContainer
from lab.paths import Paths

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_STDOUT, _STDERR = 1, 2
_LINE_BYTES_MAX = 1 << 16

Write = Callable[[bool, bytes], None]


class LogLines:
    """Writes whole lines of several containers, each after a name; safe to be called from several threads."""

    def __init__(
        self, names: Iterable[str], *, colours: bool, prefixes: bool = True, settle: Callable[[], None] = lambda: None
    ) -> None:
        """``names`` are those that are known by now: the column is as wide as the longest of them.

        ``settle`` is called before something is written.
        """
        self._settle = settle
        self._colours, self._prefixes = colours, prefixes
        self._lock = threading.Lock()
        self._numbers: dict[str, int] = {}
        self._width = max(map(len, names), default=0)

    def writer(self, name: str) -> Write:
        """Return what takes a container's output; what has no line end yet is kept."""
        prefix = self._prefix(name)
        rests = {True: b"", False: b""}

        def write(to_error: bool, data: bytes) -> None:
            *lines, rest = (rests[to_error] + data).split(b"\n")
            if len(rest) > _LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            rests[to_error] = rest
            self._write(_STDERR if to_error else _STDOUT, b"".join(prefix + line + b"\n" for line in lines))

        return write

    def tell(self, text: str) -> None:
        """Write a line of our own."""
        self._write(_STDOUT, f"{text}\n".encode())

    def _prefix(self, name: str) -> bytes:
        if not self._prefixes:
            return b""
        with self._lock:
            number = self._numbers.setdefault(name, len(self._numbers))
            self._width = max(self._width, len(name))
        text = f"{name:<{self._width}}  | "
        if self._colours:
            text = f"\033[{_COLOURS[number % len(_COLOURS)]}m{text}\033[0m"
        return text.encode()

    def _write(self, target: int, data: bytes) -> None:
        self._settle()
        with self._lock:
            left = memoryview(data)
            while left:
                left = left[os.write(target, left) :]


def colours_of(ansi: str, *, no_color: bool) -> bool:
    """Return whether lines get colours."""
    return not no_color and (ansi == "always" or (ansi == "auto" and sys.stdout.isatty()))


@contextmanager
def log_of(container: Container, wanted: reading.Wanted) -> Iterator[reading.Reader | None]:
    """Give a container's log; None for one that keeps none."""
    if container.record.options.log_driver == "none":
        yield None
        return
    with reading.Reader(container.state.bundle, wanted) as reader:
        yield reader


def show(
    containers: Containers,
    container_id: str,
    log: reading.Reader | None,
    wanted: reading.Wanted,
    write: Write,
    *,
    follow: bool,
) -> None:
    """Hand what is in a container's log, and with ``follow`` what it writes until it ends, to ``write``.

    Raises:
        NoSuchContainer: it has been removed.
    """
    container = containers.get(container_id)
    if log is not None:
        follows = follow and container.is_running
        pieces = following.follow(containers, container, log, wanted) if follows else log.pieces()
        for to_error, data in pieces:
            write(to_error, data)


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `logs`."""
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on with what comes, until the containers end")
    add("-n", "--tail", metavar="N", default="all", help="only the last N lines of each container (default: all)")
    add("--since", metavar="TIME", default="", help="only from this time on: 2026-01-02T13:23:37Z, or 10m for ago")
    add("--until", metavar="TIME", default="", help="only until this time")
    add("-t", "--timestamps", action="store_true", help="say when each line was written")
    add("--index", metavar="N", type=int, help="only the service's container of this number")
    add("--no-color", action="store_true", help="without colours")
    add("--no-log-prefix", action="store_true", help="without the names")
    add_services(parser)


def logs(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what containers have written."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    found = chosen(project, acts.existing(), arguments.services)
    if arguments.index is not None:
        found = tuple(each for each in found if each.number == arguments.index)
    wanted = reading.Wanted(
        tail=tail_of(arguments.tail),
        since_ns=instant_ns("since", arguments.since),
        until_ns=instant_ns("until", arguments.until),
        timestamps=arguments.timestamps,
    )
    lines = LogLines(
        (shown_name(project.name, each.name) for each in found),
        colours=colours_of(arguments.ansi, no_color=arguments.no_color),
        prefixes=not arguments.no_log_prefix,
    )
    _show_all(paths, project.name, found, wanted, lines, follow=arguments.follow)
    return EXIT_OK


def _show_all(
    paths: Paths,
    project: str,
    containers: Sequence[ExistingContainer],
    wanted: reading.Wanted,
    lines: LogLines,
    *,
    follow: bool,
) -> None:
    """Show the logs one after the other, or, while they grow, side by side."""
    writers = [(each, lines.writer(shown_name(project, each.name))) for each in containers]
    if not follow:
        for each, write in writers:
            _show_one(paths, each.id, wanted, write, follow=False)
        return
    outcomes: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
    for each, write in writers:
        in_thread(functools.partial(_show_one, paths, each.id, wanted, write, follow=True), outcomes.put)
    for _ in writers:
        error = outcomes.get()
        if error is not None:
            raise error


def _show_one(paths: Paths, container_id: str, wanted: reading.Wanted, write: Write, *, follow: bool) -> None:
    with Containers(paths) as containers, suppress(NoSuchContainer):  # it has just been removed
        container = containers.get(container_id)
        with log_of(container, wanted) as log:
            show(containers, container.id, log, wanted, write, follow=follow)


def in_thread(act: Callable[[], None], ended: Callable[[BaseException | None], None]) -> None:
    """Do something in a thread that keeps no command from ending; ``ended`` gets what it has raised, or None."""

    def run() -> None:
        error: BaseException | None = RuntimeError("a thread of this command has failed")  # its traceback is told
        try:
            act()
            error = None
        except (LabError, OSError) as raised:  # it is raised again where it is waited for
            error = raised
        finally:
            ended(error)

    threading.Thread(target=run, daemon=True).start()
