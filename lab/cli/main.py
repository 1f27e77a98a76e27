"""Parser, dispatch, and LabError -> message, hint and exit code.

A noun's file is imported when its verb is called, so that ``lab --help`` and the hot paths stay light. Each such
file has ``add_arguments(parser)`` and ``run(arguments, paths) -> exit code``.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol, cast

import lab
from lab.cli import output
from lab.cli.verbs import Run, Verbs, as_docker_reads, build, find, listing
from lab.errors import (
    EXIT_FAILURE,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    EXIT_USAGE,
    LabError,
    SpecError,
    disk_hint,
)
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
    "container": "run containers, and all that is done with them",
    "compose": "run systems of several containers from compose files",
    "builder": "build images, and remove what builds keep",
    "doctor": "show what this host can do, found by trying",
    "image": "make, list and remove images",
    "registry": "log in to registries, and search them",
    "manifest": "one name for images of several platforms: make, show and send it",
    "mount": "mount and unmount volumes and directories in containers, also while they run",
    "network": "make, show and remove networks, and connect containers with them",
    "report": "build the report of a run",
    "serve": "answer docker's clients: the Docker Engine API on a socket",
    "testbed": "a machine with real KVM and cgroup v2 only, emulated: on any host",
    "system": "disk usage, events, information, and repair",
    "vm": "run guests from images, and look after domains of any hypervisor",
    "volume": "make, show and remove volumes",
    "setup": "make the base images and the guest kernel, if they are not there",
}
_CONTAINER_VERBS = (
    "attach", "commit", "cp", "create", "diff", "exec", "export", "kill", "logs", "pause", "port",
    "rename", "restart", "rm", "run", "start", "stats", "stop", "top", "unpause", "update", "wait",
)  # fmt: skip
_IMAGE_VERBS = ("history", "import", "load", "pull", "push", "save", "tag")
_REGISTRY_VERBS = ("login", "logout", "search")
_SYSTEM_VERBS = ("events", "info", "inspect", "version")
STANDALONE: dict[str, tuple[str, str]] = {
    **{verb: ("container", verb) for verb in _CONTAINER_VERBS},
    **{verb: ("image", verb) for verb in _IMAGE_VERBS},
    **{verb: ("system", verb) for verb in _SYSTEM_VERBS},
    **{verb: ("registry", verb) for verb in _REGISTRY_VERBS},
    "build": ("builder", "build"),
    "ps": ("container", "ls"),
    "images": ("image", "ls"),
    "rmi": ("image", "rm"),
}
"""Verbs that stand alone, as docker's do: the noun that they belong to, and what they are called there."""
WITHOUT_VERBS = frozenset(("doctor", "serve", "setup"))
EXIT_DOCKER_USAGE = 125
_LINE_WIDTH = 100
_QUIET = "warning"
_WRONG_COUNT = re.compile(r"the following arguments are required|unrecognized arguments: (?!-)")
_REASONS: dict[object, str] = {
    int: 'strconv.ParseInt: parsing "{}": invalid syntax',
    float: "failed to parse {} as a rational number",
}
"""What docker says of a value that is no number."""
_INVALID_CHOICE = re.compile(r"invalid choice: '([^']*)' \(choose from (.*)\)")

EPILOG = """examples:
  lab doctor                       what this host can do
  lab image bootstrap busybox      a base image from Debian packages
  lab bench run quick              the quick comparison on real targets
  lab report build latest          its report

exit codes: 0 done, 1 failed, 2 wrong arguments or file, 3 not possible on this host, 4 regression found,
            130 interrupted"""


class Parser(argparse.ArgumentParser):
    """A parser whose errors look like every other error of the lab: what is wrong, then where to look."""

    def error(self, message: str) -> NoReturn:
        """Write one sentence and a hint, and exit with 2."""
        output.error(message, hint=_meant(message) or f"{self.prog} --help")
        sys.exit(EXIT_USAGE)


class DockerParser(Parser):
    """A parser of docker's verbs, whose wrong flags end with docker's words and exit code."""

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        """Say of a flag's value what is wrong with it as docker does; argparse says it of its destination."""
        try:
            return super()._get_value(action, arg_string)
        except argparse.ArgumentError as error:
            flags = sorted(action.option_strings, key=lambda flag: flag.startswith("--"))
            if not flags:
                raise
            reason = _REASONS[action.type].format(arg_string) if action.type in _REASONS else error.message
            self.error(f'invalid argument "{arg_string}" for "{", ".join(flags)}" flag: {reason}')

    def error(self, message: str) -> NoReturn:
        """Write one sentence and a hint, and exit with 125 for a wrong flag, with 1 for a wrong number of arguments."""
        message = message.replace("unrecognized arguments: -- ", "unrecognized arguments: ")  # the "--" is our own
        output.error(message, hint=_meant(message) or f"{self.prog} --help")
        sys.exit(EXIT_FAILURE if _WRONG_COUNT.match(message) else EXIT_DOCKER_USAGE)


def _meant(message: str) -> str:
    """Return the choice that a wrong one was probably meant to be, "" if none is near."""
    wrong = _INVALID_CHOICE.search(message)
    near = _close(wrong[1], re.findall(r"[\w.-]+", wrong[2])) if wrong else []
    return f"did you mean '{near[0]}'?" if near else ""


def _close(word: str, words: Sequence[str]) -> list[str]:
    import difflib  # only a wrong word needs it

    return difflib.get_close_matches(word, words, n=1)


@functools.cache
def build_parser() -> argparse.ArgumentParser:
    """Return the top parser: global flags, then a noun whose own parser is made when it is called."""
    parser = Parser(
        prog="lab",
        description="One workload as a process, a container and a virtual machine, measured honestly.",
        epilog=_overview() + EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"lab {lab.__version__}")
    parser.add_argument("--root", metavar="DIR", help="keep all state below DIR (default: $LAB_ROOT, /var/lib/lab)")
    parser.add_argument("--log-level", default=_QUIET, choices=("debug", "info", _QUIET, "error"))
    parser.add_argument("noun", metavar="NOUN", help="one of the nouns below; `lab NOUN --help` shows its verbs")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _overview() -> str:
    nouns = "".join(f"  {noun:<12}{text}\n" for noun, text in NOUNS.items())
    return f"nouns:\n{nouns}\nverbs of containers and images:\n{_wrapped(sorted(STANDALONE))}\n"


def _wrapped(words: Sequence[str]) -> str:
    lines = [""]
    for word in words:
        if len(lines[-1]) + len(word) > _LINE_WIDTH:
            lines.append("")
        lines[-1] += f" {word}"
    return "".join(f" {line}\n" for line in lines)


def all_parsers() -> Iterator[argparse.ArgumentParser]:
    """Give the parser of every command there is: for the reference, and for whoever checks them all."""
    yield build_parser()
    alone = {belongs: word for word, belongs in STANDALONE.items()}
    for noun in NOUNS:
        verbs = _verbs(noun)
        yield from (noun_parser(noun),) if verbs is not None else _with_inner(noun_parser(noun))
        for name in verbs or ():
            yield verb_parser(noun, name, prog=f"lab {alone.get((noun, name), f'{noun} {name}')}")[0]


def _with_inner(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):  # aliases have the same parser
                yield from _with_inner(inner)


@functools.cache
def verb_parser(noun: str, name: str, *, prog: str) -> tuple[argparse.ArgumentParser, Run]:
    """Return the parser of one verb of a noun that has a table of them, and what carries it out."""
    verb = find(_verbs(noun) or {}, name)
    assert verb is not None
    parser = DockerParser(prog=prog, allow_abbrev=False, add_help=False)  # -h is a flag of its own in docker's words
    parser.add_argument("--help", action="help", help="show this help message and exit")
    build(parser, verb)
    return parser, verb.run


def _verbs(noun: str) -> Verbs | None:
    found: Verbs | None = getattr(_noun(noun), "VERBS", None)
    return found


def noun_parser(noun: str) -> argparse.ArgumentParser:
    """Return the parser of one noun, its verbs included; this imports the noun's file."""
    parser = Parser(
        prog=f"lab {noun}",
        description=NOUNS[noun],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = _verbs(noun)
    if verbs is None:
        _noun(noun).add_arguments(parser)
    else:
        if add_flags := getattr(_noun(noun), "add_flags", None):
            add_flags(parser)
        parser.add_argument("verb", metavar="VERB", help=f"one of the verbs below; `lab {noun} VERB --help` shows more")
        parser.epilog = f"{listing(verbs)}\nexample:\n  {next(iter(verbs.values())).example}"
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    parser = build_parser()
    if not argv:
        parser.print_help()
        return EXIT_USAGE
    top = parser.parse_args(list(argv))
    if top.noun not in NOUNS and top.noun not in STANDALONE:
        near = _close(top.noun, (*NOUNS, *STANDALONE))
        output.error(f"unknown noun '{top.noun}'", hint=f"lab {near[0]}" if near else "lab --help")
        return EXIT_USAGE
    return _dispatch(top.noun, top.rest, root=top.root, log_level=top.log_level)


def _dispatch(noun: str, rest: Sequence[str], *, root: str | None, log_level: str) -> int:
    if noun not in STANDALONE or log_level != _QUIET:  # else nothing is logged, and a start need not wait for it
        from lab import log

        log.set_up(level=log_level)
    paths = Paths.under(root) if root else Paths.default()
    try:
        if noun in STANDALONE:
            return _run_verb(*STANDALONE[noun], rest, paths, prog=f"lab {noun}")
        given, rest = _own_flags(noun, rest)
        words = _verb_words(noun, rest)
        if words:
            name = " ".join(rest[:words])
            return _run_verb(noun, name, rest[words:], paths, prog=f"lab {noun} {name}", given=given)
        return _run_noun(noun, rest, paths)
    except KeyboardInterrupt:
        output.error("interrupted")
        return EXIT_INTERRUPTED
    except Exception as error:  # one of the four places: here an exception becomes a sentence and an exit code
        return _explain(error, paths)


def _verb_words(noun: str, rest: Sequence[str]) -> int:
    """Return how many of the words are a verb of the noun: 1 as in `network ls`, 2 as in `vm image ls`, 0 for none."""
    verbs = _verbs(noun) or {}
    return next((count for count in (2, 1) if len(rest) >= count and find(verbs, " ".join(rest[:count]))), 0)


def _own_flags(noun: str, rest: Sequence[str]) -> tuple[argparse.Namespace | None, Sequence[str]]:
    """Return the flags of a noun that stand before its verb, and what follows them; None where it has no such flags."""
    add_flags = getattr(_noun(noun), "add_flags", None)
    if add_flags is None or not rest or rest[0] in ("-h", "--help"):
        return None, rest
    parser = Parser(prog=f"lab {noun}", allow_abbrev=False)
    add_flags(parser)
    parser.add_argument("verb")
    parser.add_argument("rest", nargs=argparse.REMAINDER)
    given = parser.parse_args(list(rest))
    return given, (given.verb, *given.rest)


def _run_verb(
    noun: str,
    name: str,
    rest: Sequence[str],
    paths: Paths,
    *,
    prog: str,
    given: argparse.Namespace | None = None,
) -> int:
    parser, run = verb_parser(noun, name, prog=prog)
    try:
        return run(parser.parse_args(as_docker_reads(parser, rest), given), paths)
    except SpecError as error:
        if error.exit_code == EXIT_USAGE:
            error.exit_code = EXIT_FAILURE  # docker's, once its flags have been understood
        raise


def _run_noun(noun: str, rest: Sequence[str], paths: Paths) -> int:
    parser = noun_parser(noun)
    if not rest and noun not in WITHOUT_VERBS:
        parser.print_help()
        return EXIT_USAGE
    arguments = parser.parse_args(rest)
    verbs = _verbs(noun)
    if verbs is not None:
        near = _close(arguments.verb, tuple(verbs))
        hint = f"did you mean '{near[0]}'?" if near else f"lab {noun} --help"
        raise SpecError(f"lab {noun} has no verb '{arguments.verb}'", hint=hint)
    return _noun(noun).run(arguments, paths)


def _noun(name: str) -> Noun:
    # cast: a module is a value whose shape mypy cannot know before it is imported
    return cast(Noun, importlib.import_module(f"lab.cli.{name}"))


def _explain(error: Exception, paths: Paths) -> int:
    """Write what failed and what to do, the traceback at --log-level debug only, and return the exit code."""
    import logging  # not on the way of --help

    logging.getLogger("lab.cli").debug("the command failed", exc_info=error)
    if isinstance(error, LabError):
        output.error("; ".join((str(error), *getattr(error, "__notes__", ()))), hint=error.hint)
        return error.exit_code
    if isinstance(error, BrokenPipeError):
        raise error
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("lab."):
        output.error(f"a Python package is missing: {error}", hint="sudo ./lab.sh setup installs it")
        return EXIT_UNAVAILABLE
    if isinstance(error, PermissionError) and os.geteuid() != 0:
        output.error(f"not allowed for this user: {error}", hint="run the same command with sudo")
        return EXIT_UNAVAILABLE
    if isinstance(error, OSError) and (hint := disk_hint(error.errno)):
        output.error(f"cannot write to {error.filename or paths.root}: {error.strerror}", hint=hint)
        return EXIT_FAILURE
    if isinstance(error, OSError):
        output.error(str(error), hint="run it again with `lab --log-level debug` to see where")
        return EXIT_FAILURE
    output.error(f"this is a bug: {type(error).__name__}: {error}", hint="lab --log-level debug, and report its output")
    return EXIT_FAILURE


def outcome(argv: Sequence[str]) -> int:
    """Run one command line as a whole program does, and return its exit code; a closed pipe is not an error."""
    try:
        code = _code(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_INTERRUPTED
    return code


def _code(argv: Sequence[str]) -> int:
    try:
        return main(argv)
    except SystemExit as ended:  # a parser's, after its help or what is wrong
        return ended.code if isinstance(ended.code, int) else EXIT_OK
    except KeyboardInterrupt:  # before the command had begun, or once it was done
        return EXIT_INTERRUPTED


def entry() -> NoReturn:
    """Run ``sys.argv`` in this process, and exit."""
    sys.exit(outcome(sys.argv[1:]))
