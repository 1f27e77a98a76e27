"""Parser, dispatch, and LabError -> message, hint and exit code.

A noun's file is imported when its verb is called, so that ``lab --help`` and the hot paths stay light. Each such
file has ``add_arguments(parser)`` and ``run(arguments, paths) -> exit code``.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn, Protocol

import lab
from lab.cli import output
from lab.errors import EXIT_INTERRUPTED, EXIT_USAGE, LabError
from lab.paths import Paths


class Noun(Protocol):
    """What a file of this package offers to the dispatcher."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add the noun's verbs and flags."""
        ...

    def run(self, arguments: argparse.Namespace, paths: Paths) -> int:
        """Carry the verb out and return the exit code."""
        ...


NOUNS = {
    "bench": "run suites, resume, show and export runs",
    "doctor": "show what this host can do, found by trying",
    "image": "make, list and remove images",
    "report": "build the report of a run",
}

EPILOG = """examples:
  lab doctor                       what this host can do
  lab image bootstrap busybox      a base image from Debian packages
  lab bench run quick              the quick comparison on real targets
  lab report build latest          its report

exit codes: 0 done, 1 failed, 2 wrong arguments or file, 3 not possible on this host, 4 regression found,
            130 interrupted"""


def build_parser() -> argparse.ArgumentParser:
    """Return the top parser: global flags, then a noun whose own parser is made when it is called."""
    parser = argparse.ArgumentParser(
        prog="lab",
        description="One workload as a process, a container and a virtual machine, measured honestly.",
        epilog="nouns:\n" + "".join(f"  {noun:<12}{text}\n" for noun, text in NOUNS.items()) + "\n" + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lab {lab.__version__}")
    parser.add_argument("--root", metavar="DIR", help="keep all state below DIR (default: $LAB_ROOT, /var/lib/lab)")
    parser.add_argument("--log-level", default="warning", choices=("debug", "info", "warning", "error"))
    parser.add_argument("noun", metavar="NOUN", help="one of the nouns below; `lab NOUN --help` shows its verbs")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    parser = build_parser()
    top = parser.parse_args(list(argv))
    if top.noun not in NOUNS:
        output.error(f"unknown noun '{top.noun}'", hint=f"one of: {', '.join(sorted(NOUNS))}; see 'lab --help'")
        return EXIT_USAGE
    return _dispatch(top.noun, top.rest, root=top.root, log_level=top.log_level)


def _dispatch(noun: str, rest: Sequence[str], *, root: str | None, log_level: str) -> int:
    from lab import log  # not on the way of --help

    log.set_up(level=log_level)
    module: Noun = importlib.import_module(f"lab.cli.{noun}")
    parser = argparse.ArgumentParser(
        prog=f"lab {noun}", description=NOUNS[noun], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    module.add_arguments(parser)
    arguments = parser.parse_args(rest)
    try:
        return module.run(arguments, Paths.under(root) if root else Paths.default())
    except LabError as error:
        output.error(str(error), hint=error.hint)
        return error.exit_code
    except KeyboardInterrupt:
        output.error("interrupted")
        return EXIT_INTERRUPTED


def entry() -> NoReturn:
    """Console script: run ``sys.argv`` and exit; a closed pipe is not an error."""
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_INTERRUPTED
    sys.exit(code)
