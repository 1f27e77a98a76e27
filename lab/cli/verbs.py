"""A noun's verbs one at a time: the parser of one alone, and docker's way of writing its switches."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence

from lab.cli.verb import Verb
from lab.paths import Paths

Run = Callable[[argparse.Namespace, Paths], int]
Verbs = Mapping[str, Verb]
_TRUE, _FALSE = ("true", "1", "t"), ("false", "0", "f")


def lazy(module: str, name: str, *, text: str, example: str, aliases: tuple[str, ...] = ()) -> Verb:
    """Return a verb whose module, with ``add_<name>`` and ``<name>``, is imported when it is called."""

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        getattr(importlib.import_module(module), f"add_{name}")(parser)

    def run(arguments: argparse.Namespace, paths: Paths) -> int:
        code: int = getattr(importlib.import_module(module), name)(arguments, paths)
        return code

    return Verb(help=text, example=example, add_arguments=add_arguments, run=run, aliases=aliases)


def find(verbs: Verbs, word: str) -> Verb | None:
    """Return the verb of this name or alias, None if there is none."""
    if word in verbs:
        return verbs[word]
    return next((verb for verb in verbs.values() if word in verb.aliases), None)


def build(parser: argparse.ArgumentParser, verb: Verb) -> None:
    """Give a parser of its own the verb's help and arguments."""
    parser.description = verb.help[0].upper() + verb.help[1:] + "."
    parser.epilog = f"example:\n  {verb.example}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    verb.add_arguments(parser)


def listing(verbs: Verbs) -> str:
    """Return the verbs with their help, for the noun's own --help."""
    width = max(map(len, verbs)) + 2
    return "verbs:\n" + "".join(f"  {name:<{width}}{verb.help}\n" for name, verb in verbs.items())


def with_plain_switches(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Return ``argv`` with docker's "--rm=true" as "--rm", for flags that take no value.

    "--rm=false" is left out, and "--pause=false" becomes "--no-pause" where that is a flag.
    """
    switches = {flag: action for action in parser._actions if action.nargs == 0 for flag in action.option_strings}
    found: list[str] = []
    for position, word in enumerate(argv):
        if word == "--" or not word.startswith("-"):
            takes_value = position and _takes_value(parser, argv[position - 1])
            if not takes_value:
                return found + list(argv[position:])  # the first word that is no flag: what follows may be a program's
        name, separator, value = word.partition("=")
        if name in switches and separator and value.lower() in (*_TRUE, *_FALSE):
            found += [name] if value.lower() in _TRUE else _negations(switches[name])
        else:
            found.append(word)
    return found


def _negations(switch: argparse.Action) -> list[str]:
    return [flag for flag in switch.option_strings if flag.startswith("--no-")]


def _takes_value(parser: argparse.ArgumentParser, word: str) -> bool:
    if not word.startswith("-") or "=" in word:
        return False
    flag = word if word.startswith("--") else f"-{word[-1]}"
    return any(action.nargs != 0 and flag in action.option_strings for action in parser._actions)
