"""Tables, JSON, messages and progress; the only print() of the lab."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from lab.errors import EXIT_FAILURE, EXIT_OK, KernelError, LabError

Row = Mapping[str, object]


def line(text: str = "") -> None:
    """Write one line of result to standard output."""
    print(text)


def text(text: str) -> None:
    """Write a result that has its newlines already to standard output."""
    print(text, end="")


def note(text: str) -> None:
    """Write one line about what is going on to standard error, so that results can be piped."""
    print(text, file=sys.stderr, flush=True)


def error(message: str, *, hint: str = "") -> None:
    """Write what failed, and what to do next, to standard error."""
    print(f"lab: {message}", file=sys.stderr)
    if hint:
        print(f"     try: {hint}", file=sys.stderr)


def each(references: Iterable[str], act: Callable[[str], object]) -> int:
    """Do it to each, print what it was called, go on after one that fails, and return the exit code."""
    code = EXIT_OK
    for reference in references:
        try:
            act(reference)
        except LabError as failure:
            error(str(failure), hint=failure.hint)
            code = EXIT_FAILURE
        else:
            line(reference)
    return code


def confirmed(warning: str) -> bool:
    """Ask on standard output, as docker's prune does, and return whether the answer on standard input was yes."""
    print(f"{warning}\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def results() -> Iterator[None]:
    """Let standard output take bytes in a block.

    Raises:
        KernelError: it does not, for another reason than that nobody reads.
    """
    try:
        yield
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise KernelError("write", "standard output", error.strerror or str(error)) from error


def document(value: object) -> None:
    """Write ``value`` as indented JSON."""
    print(json.dumps(value, indent=2, ensure_ascii=False))


def listing(rows: Sequence[Row], *, columns: Sequence[str], output_format: str = "table") -> None:
    """Write rows as a table with upper-case headings, or as a JSON array of objects (all their keys)."""
    if output_format == "json":
        document([dict(row) for row in rows])
        return
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[str(row.get(column, "")) for column in columns] for row in rows]
    widths = [max(len(row[index]) for row in cells) for index in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


class Progress:
    """One status line on standard error: rewritten in place on a terminal, a line each when it is not one."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._width = 0

    def update(self, text: str) -> None:
        """Show ``text`` as the current state."""
        if self._live:
            print("\r" + text.ljust(self._width), end="", file=sys.stderr, flush=True)
            self._width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)

    def done(self) -> None:
        """Leave the status line; what is written next begins on a new line."""
        if self._live and self._width:
            print(file=sys.stderr, flush=True)
            self._width = 0
