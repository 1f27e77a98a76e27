"""`lab report`: build the report of a run, list runs and their reports, say where a report is."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

from lab.bench.runs import find_run, run_ids
from lab.cli import output
from lab.cli.arguments import add_format, add_run, add_verb
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths

FORMATS = ("html", "md", "csv", "parquet", "png")
PAGE = "report.html"

EPILOG = """examples:
  lab report build latest                 the report of the run that was written to last
  lab report build 20261124 --format html only the page, of the run whose id begins so
  lab report list                         every run, and whether it has a report
  lab report path latest                  where its page is

RUN is a run's id, a prefix that only one has, its directory, or "latest"."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    parser.epilog = EPILOG
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    build = add_verb(verbs, "build", "write the report of a run", "lab report build latest --output /tmp/report")
    add_run(build)
    build.add_argument("--output", metavar="DIR", help="where to write (default: 'report' in the run's directory)")
    build.add_argument(
        "--format",
        metavar="LIST",
        default=",".join(FORMATS),
        help=f"what to write, with commas: {','.join(FORMATS)} (default: all; png also writes SVG)",
    )
    listing = add_verb(verbs, "list", "list the runs and their reports", "lab report list --format json")
    add_format(listing)
    add_run(add_verb(verbs, "path", "print the path of a run's page", 'xdg-open "$(lab report path latest)"'))


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Carry the verb out and return the exit code."""
    return _VERBS[arguments.verb](arguments, paths)


def _build(arguments: argparse.Namespace, paths: Paths) -> int:
    wanted = _formats(arguments.format)
    directory = find_run(paths.runs, arguments.run)
    from lab.report.build import ReportFormat, build  # pandas and matplotlib take a second; --help must not

    target = os.path.abspath(arguments.output) if arguments.output else os.path.join(directory, "report")
    for path in build(directory, target, tuple(ReportFormat(name) for name in wanted)):
        output.line(path)
    return EXIT_OK


def _formats(text: str) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    unknown = [name for name in wanted if name not in FORMATS]
    if unknown or not wanted:
        raise SpecError(f"unknown report format '{', '.join(unknown)}'", hint=f"any of: {','.join(FORMATS)}")
    return wanted


def _list(arguments: argparse.Namespace, paths: Paths) -> int:
    rows = [
        {"run": name, "report": _page(os.path.join(paths.runs, name)) or "none yet"} for name in run_ids(paths.runs)
    ]
    output.listing(rows, columns=("run", "report"), output_format=arguments.format)
    return EXIT_OK


def _path(arguments: argparse.Namespace, paths: Paths) -> int:
    directory = find_run(paths.runs, arguments.run)
    page = _page(directory)
    if page is None:
        name = os.path.basename(directory)
        raise SpecError(f"run {name} has no report yet", hint=f"build it: lab report build {name}")
    output.line(page)
    return EXIT_OK


def _page(directory: str) -> str | None:
    page = os.path.join(directory, "report", PAGE)
    return page if os.path.isfile(page) else None


_VERBS: dict[str, Callable[[argparse.Namespace, Paths], int]] = {"build": _build, "list": _list, "path": _path}
