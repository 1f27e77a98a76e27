"""A noun's verbs one at a time: the parser of one alone, and docker's way of writing its flags."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Mapping, Sequence

from lab.cli.verb import Verb
from lab.paths import Paths

Run = Callable[[argparse.Namespace, Paths], int]
Verbs = Mapping[str, Verb]
_Flags = Mapping[str, argparse.Action]
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


def as_docker_reads(parser: argparse.ArgumentParser, argv: Sequence[str]) -> list[str]:
    """Return ``argv`` in argparse's words: flags, then ``--``, then everything else.

    docker takes flags between other words as well, unless what follows is a program's; "--rm=true" is "--rm",
    "--rm=false" is left out, and "--pause=false" becomes "--no-pause" where that is a flag. An unknown flag is an error
    whatever else is missing.
    """
    flags = parser._option_string_actions
    leads_program = any(action.nargs in (argparse.REMAINDER, argparse.PARSER) for action in parser._actions)
    found: list[str] = []
    others: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        is_other = word == "-" or not word.startswith("-")
        if is_other:
            others.append(word)
        if word == "--" or (is_other and leads_program):
            return [*found, "--", *others, *words]
        if is_other:
            continue
        if not _is_known(flags, word):
            parser.error(f"unrecognized arguments: {word}")
        found += _plain(flags, word)
        if _wants_value(flags, word) and words:
            value = words.pop(0)
            if value.startswith("-"):  # which argparse would take for a flag
                found[-1] += f"={value}" if word.startswith("--") else value
            else:
                found.append(value)
    return [*found, "--", *others] if others else found


def _plain(flags: _Flags, word: str) -> list[str]:
    name, separator, value = word.partition("=")
    if separator and name in flags and flags[name].nargs == 0 and value.lower() in (*_TRUE, *_FALSE):
        return [name] if value.lower() in _TRUE else _negations(flags[name])
    return [word]


def _negations(switch: argparse.Action) -> list[str]:
    return [flag for flag in switch.option_strings if flag.startswith("--no-")]


def _is_known(flags: _Flags, word: str) -> bool:
    name = word.partition("=")[0]
    return name in flags if word.startswith("--") else all(flag in flags for flag in _letters(flags, name))


def _wants_value(flags: _Flags, word: str) -> bool:
    """Return whether the next word is the value of the last flag in this one."""
    if "=" in word:
        return False
    letters = [word] if word.startswith("--") else _letters(flags, word)
    is_whole = word.startswith("--") or len(letters) == len(word) - 1
    return is_whole and flags[letters[-1]].nargs != 0


def _letters(flags: _Flags, word: str) -> list[str]:
    """Return the flags of a word like "-it" or "-m32m", up to one that takes a value: the rest of the word is that."""
    found: list[str] = []
    for letter in word[1:]:
        found.append(f"-{letter}")
        if found[-1] not in flags or flags[found[-1]].nargs != 0:
            break
    return found
