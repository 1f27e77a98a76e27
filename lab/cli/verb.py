"""A verb of the command line: an entry of a noun's table, mounted below it and, where docker has it, at the top."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lab.paths import Paths


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """What a verb is: its help in lower case without a full stop, an example, its arguments, and what it does.

    ``run`` returns the exit code. ``aliases`` are further names below the noun.
    """

    help: str
    example: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Paths], int]
    aliases: tuple[str, ...] = ()


def add_verbs(parser: argparse.ArgumentParser, verbs: Mapping[str, Verb]) -> None:
    """Give a noun's parser its verbs; what was chosen is in ``verb`` of the parsed arguments."""
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in verbs.items():
        inner = subparsers.add_parser(
            name,
            aliases=verb.aliases,
            help=verb.help,
            description=description(verb),
            epilog=epilog(verb),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_arguments(inner)


def description(verb: Verb) -> str:
    """Return a verb's help as a sentence."""
    return f"{verb.help[0].upper()}{verb.help[1:]}."


def epilog(verb: Verb) -> str:
    """Return what a verb's help ends with."""
    return f"example:\n  {verb.example}"


def chosen(verbs: Mapping[str, Verb], name: str) -> Verb:
    """Return the verb of this name or alias."""
    return verbs.get(name) or next(verb for verb in verbs.values() if name in verb.aliases)
