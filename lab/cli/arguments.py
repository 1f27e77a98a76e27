"""Arguments that several nouns share: a verb with its help, a run, and the form in which a result is written."""

from __future__ import annotations

import argparse

from lab.bench.runs import LATEST

Verbs = argparse._SubParsersAction  # argparse has no public name for what add_subparsers() returns


def add_verb(verbs: Verbs[argparse.ArgumentParser], name: str, text: str, example: str) -> argparse.ArgumentParser:
    """Add a verb; ``text`` is its help in lower case without a full stop, ``example`` one command line."""
    return verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the positional argument RUN, as ``lab.bench.runs.find_run`` takes it."""
    parser.add_argument("run", metavar="RUN", help=f"id, unique prefix, directory, or '{LATEST}'")


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add ``--format table|json``."""
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to write the result")
