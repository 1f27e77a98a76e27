"""What the arguments of each instruction say, typed and checked: the second pass over a Dockerfile.

Words stay as written: which variables they see is known to ``build_plan`` only. The many small types are named tuples,
since making as many dataclasses would cost a build a tenth of its time.
Source: https://docs.docker.com/reference/dockerfile/.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple, NoReturn

from lab.container.image.dockerfile import (
    Heredoc,
    Instruction,
    Keyword,
    heredoc_words,
    keyword_of,
    parse_lines,
    stage_name,
)
from lab.container.image.lexer import raw_words
from lab.container.spec.image import Healthcheck
from lab.errors import DockerfileError
from lab.units import NS_PER_MS, parse_duration_ns

Pairs = tuple[tuple[str, str], ...]
_FORBIDDEN_TRIGGERS = (Keyword.ONBUILD, Keyword.FROM, Keyword.MAINTAINER)


class CommandLine(NamedTuple):
    """A command: the words of the exec form, or one text for the shell; ``heredocs`` go with a text."""

    words: tuple[str, ...]
    shell: bool
    heredocs: tuple[Heredoc, ...] = ()


class From(NamedTuple):
    """The beginning of a stage; ``name`` is "" when it has none."""

    image: str
    name: str
    platform: str


class Arg(NamedTuple):
    """Names with their default values, None where there is no default."""

    items: tuple[tuple[str, str | None], ...]


class Env(NamedTuple):
    """Variables of the image."""

    pairs: Pairs


class Label(NamedTuple):
    """Labels of the image."""

    pairs: Pairs


class Run(NamedTuple):
    """A command to be run now; ``mounts`` are the values of ``--mount`` as written."""

    command: CommandLine
    mounts: tuple[str, ...] = ()
    network: str = "default"


class Cmd(NamedTuple):
    """The default command, or its arguments."""

    command: CommandLine


class Entrypoint(NamedTuple):
    """The command that is always run."""

    command: CommandLine


class Copy(NamedTuple):
    """COPY, and ADD where ``unpacks``; ``heredocs`` are sources that stand in the file itself."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    unpacks: bool = False
    origin: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    keep_git_dir: bool = False
    checksum: str = ""
    excludes: tuple[str, ...] = ()


class Expose(NamedTuple):
    """Ports as written."""

    ports: tuple[str, ...]


class Volume(NamedTuple):
    """Paths that hold data."""

    paths: tuple[str, ...]


class User(NamedTuple):
    """Who runs what follows: "user", "user:group", by name or number."""

    name: str


class Workdir(NamedTuple):
    """Where what follows runs."""

    path: str


class Stopsignal(NamedTuple):
    """The signal that stops a container."""

    signal: str


class Shell(NamedTuple):
    """What runs the shell form from here on."""

    words: tuple[str, ...]


class Health(NamedTuple):
    """How a container's health is found out."""

    check: Healthcheck


class Onbuild(NamedTuple):
    """An instruction for images that are built on this one."""

    trigger: str


class Maintainer(NamedTuple):
    """Who made the image."""

    name: str


Body = (
    From | Arg | Env | Label | Run | Cmd | Entrypoint | Copy | Expose | Volume | User | Workdir | Stopsignal | Shell
    | Health | Onbuild | Maintainer
)  # fmt: skip


class Statement(NamedTuple):
    """An instruction and what it says."""

    source: Instruction
    body: Body
    text: str


def understand(instruction: Instruction) -> Statement:
    """Return what an instruction says.

    Raises:
        DockerfileError: its arguments are not those of such an instruction.
    """
    body = _READERS[instruction.keyword](instruction)
    return Statement(source=instruction, body=body, text=_one_line(instruction))


def parse_trigger(text: str, onto: Instruction) -> Statement:
    """Return the instruction that an image's ONBUILD holds; its faults are told of ``onto``, the FROM that runs it.

    Raises:
        DockerfileError: it is none, or one that may not be there.
    """
    found = parse_lines(text, path=f"ONBUILD of {onto.arguments}", escape="\\")
    if len(found) != 1:
        refuse(onto, f"the image's ONBUILD trigger is not one instruction: {text!r}")
    trigger = found[0]
    if trigger.keyword in _FORBIDDEN_TRIGGERS:
        refuse(onto, f"{trigger.keyword} isn't allowed as an ONBUILD trigger")
    return understand(trigger)


def refuse(instruction: Instruction, message: str, *, hint: str = "") -> NoReturn:
    """Raise what is wrong with an instruction, with its file and line."""
    raise DockerfileError(message, path=instruction.path, line=instruction.first_line, hint=hint)


def _one_line(instruction: Instruction) -> str:
    flags = "".join(f"--{name} " if value == "true" else f"--{name}={value} " for name, value in instruction.flags)
    return f"{instruction.keyword} {flags}{' '.join(instruction.arguments.split())}".rstrip()


def _from(i: Instruction) -> From:
    name = stage_name(i)
    return From(image=i.arguments.split()[0], name=name, platform=_single(i, "platform"))


def _arg(i: Instruction) -> Arg:
    items: list[tuple[str, str | None]] = []
    for word in _at_least_one(i):
        name, equals, value = word.partition("=")
        if not name:
            refuse(i, "ARG names can not be blank")
        items.append((name, value if equals else None))
    return Arg(items=tuple(items))


def _env(i: Instruction) -> Env:
    return Env(pairs=_pairs(i))


def _label(i: Instruction) -> Label:
    return Label(pairs=_pairs(i))


def _pairs(i: Instruction) -> Pairs:
    words = _at_least_one(i)
    if "=" not in words[0]:
        name, *rest = i.arguments.split(None, 1)
        if not rest:
            refuse(i, f"{i.keyword} must have two arguments")
        return ((name, rest[0]),)
    found: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            refuse(i, f"can't find = in {word!r}: it must be of the form name=value")
        if not name:
            refuse(i, f"{i.keyword} names can not be blank")
        found.append((name, value))
    return tuple(found)


def _run(i: Instruction) -> Run:
    command = _command(i)
    if not any(command.words):
        refuse(i, "RUN requires a command")
    network = _single(i, "network") or "default"
    if network not in ("default", "none", "host"):
        refuse(i, f"invalid network mode: {network!r}", hint="default, none or host")
    if _single(i, "security") not in ("", "sandbox"):
        refuse(i, "--security=insecure is not supported", hint="lab run --privileged, outside of a build")
    return Run(command=command, mounts=i.values("mount"), network=network)


def _cmd(i: Instruction) -> Cmd:
    return Cmd(command=_command(i))


def _entrypoint(i: Instruction) -> Entrypoint:
    return Entrypoint(command=_command(i))


def _command(i: Instruction) -> CommandLine:
    if i.words is not None:
        return CommandLine(words=i.words, shell=False)
    return CommandLine(words=(i.arguments,) if i.arguments else (), shell=True, heredocs=i.heredocs)


def _copy(i: Instruction) -> Copy:
    words = i.words if i.words is not None else raw_words(i.arguments, escape=i.escape)
    announced = heredoc_words(i.arguments, i.place) if i.words is None else ()
    places = [word for word in words if not (announced and re.match(r"[0-9]*<<", word))]
    if len(words) < 2:
        refuse(i, f"{i.keyword} requires at least two arguments, but only one was provided. Destination could not be"
                  " determined")  # fmt: skip
    if announced and (not places or places[-1] != words[-1]):
        refuse(i, f"{i.keyword} cannot use a here-document as its destination")
    return Copy(
        sources=tuple(places[:-1]),
        destination=places[-1],
        heredocs=i.heredocs,
        unpacks=i.keyword is Keyword.ADD,
        origin=_single(i, "from"),
        chown=_single(i, "chown"),
        chmod=_single(i, "chmod"),
        link=_single(i, "link") == "true",
        parents=_single(i, "parents") == "true",
        keep_git_dir=_single(i, "keep-git-dir") == "true",
        checksum=_single(i, "checksum"),
        excludes=i.values("exclude"),
    )


def _expose(i: Instruction) -> Expose:
    return Expose(ports=_at_least_one(i))


def _volume(i: Instruction) -> Volume:
    paths = i.words if i.words is not None else tuple(i.arguments.split())
    if not paths:
        refuse(i, "VOLUME requires at least one argument")
    if any(not path.strip() for path in paths):
        refuse(i, "VOLUME specified can not be an empty string")
    return Volume(paths=paths)


def _user(i: Instruction) -> User:
    return User(name=_exactly_one(i))


def _workdir(i: Instruction) -> Workdir:
    return Workdir(path=_exactly_one(i))


def _stopsignal(i: Instruction) -> Stopsignal:
    return Stopsignal(signal=_exactly_one(i))


def _maintainer(i: Instruction) -> Maintainer:
    return Maintainer(name=_exactly_one(i))


def _shell(i: Instruction) -> Shell:
    if not i.arguments or i.words == ():
        refuse(i, "SHELL requires at least one argument")
    if i.words is None:
        refuse(i, "SHELL requires the arguments to be in JSON form")
    return Shell(words=i.words)


def _onbuild(i: Instruction) -> Onbuild:
    words = _at_least_one(i)
    trigger = keyword_of(words[0], i.path, i.first_line)
    if trigger is Keyword.ONBUILD:
        refuse(i, "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in _FORBIDDEN_TRIGGERS:
        refuse(i, f"{trigger} isn't allowed as an ONBUILD trigger")
    text = "\n".join((i.arguments, *(heredoc.source for heredoc in i.heredocs)))
    for inner in parse_lines(text, path=i.path, escape=i.escape, first_line=i.first_line):
        understand(inner)  # its faults are this file's, not those of who builds on it
    return Onbuild(trigger=text)


def _healthcheck(i: Instruction) -> Health:
    kind, *rest = i.arguments.split(None, 1) or refuse(i, "HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            refuse(i, "HEALTHCHECK NONE takes no arguments")
        return Health(check=Healthcheck(test=("NONE",)))
    if kind.upper() != "CMD":
        refuse(i, f"Unknown type {kind.upper()!r} in HEALTHCHECK (try CMD)")
    if not rest:
        refuse(i, "Missing command after HEALTHCHECK CMD")
    inner = parse_lines(f"CMD {rest[0]}", path=i.path, escape=i.escape)[0]
    test = ("CMD-SHELL", rest[0]) if inner.words is None else ("CMD", *inner.words)
    return Health(
        check=Healthcheck(
            test=test,
            interval=_duration(i, "interval"),
            timeout=_duration(i, "timeout"),
            start_period=_duration(i, "start-period"),
            start_interval=_duration(i, "start-interval"),
            retries=_retries(i),
        )
    )


def _duration(i: Instruction, flag: str) -> int:
    text = _single(i, flag)
    if text in ("", "0"):
        return 0
    try:
        duration_ns = parse_duration_ns(text)
    except ValueError as error:
        refuse(i, f"--{flag}: {error}")
    if 0 < duration_ns < NS_PER_MS:
        refuse(i, f"Interval {flag!r} cannot be less than 1ms")
    return duration_ns


def _retries(i: Instruction) -> int:
    text = _single(i, "retries")
    if not re.fullmatch(r"-?[0-9]*", text):
        refuse(i, f"--retries is not a number: {text!r}")
    if text.startswith("-"):
        refuse(i, f"--retries cannot be negative ({text})")
    return int(text or 0)


def _single(i: Instruction, flag: str) -> str:
    values = i.values(flag)
    if len(values) > 1:
        refuse(i, f"Duplicate flag specified: {flag}")
    return values[0] if values else ""


def _at_least_one(i: Instruction) -> tuple[str, ...]:
    words = raw_words(i.arguments, escape=i.escape)
    if not words:
        refuse(i, f"{i.keyword} requires at least one argument")
    return words


def _exactly_one(i: Instruction) -> str:
    if not i.arguments:
        refuse(i, f"{i.keyword} requires exactly one argument")
    return i.arguments


_READERS: dict[Keyword, Callable[[Instruction], Body]] = {
    Keyword.ADD: _copy,
    Keyword.ARG: _arg,
    Keyword.CMD: _cmd,
    Keyword.COPY: _copy,
    Keyword.ENTRYPOINT: _entrypoint,
    Keyword.ENV: _env,
    Keyword.EXPOSE: _expose,
    Keyword.FROM: _from,
    Keyword.HEALTHCHECK: _healthcheck,
    Keyword.LABEL: _label,
    Keyword.MAINTAINER: _maintainer,
    Keyword.ONBUILD: _onbuild,
    Keyword.RUN: _run,
    Keyword.SHELL: _shell,
    Keyword.STOPSIGNAL: _stopsignal,
    Keyword.USER: _user,
    Keyword.VOLUME: _volume,
    Keyword.WORKDIR: _workdir,
}
