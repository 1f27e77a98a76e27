"""What each instruction does: to the image's configuration at once, to its files when the plan is carried out; pure."""

from __future__ import annotations

import json
import posixpath
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lab.container.image import instructions as i
from lab.container.image.build_scope import Scope
from lab.container.image.run_mounts import RunMount, parse_mount
from lab.container.spec.image import ExecutionConfig
from lab.errors import SpecError

DEFAULT_SHELL = ("/bin/sh", "-c")
DEFAULT_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SCRIPT_DIRECTORY = "/dev/pipes"
_PORT = re.compile(r"(?:(?:[^/]*:)?[^/]*:)?([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/(tcp|udp|sctp))?", re.IGNORECASE)
_PORT_MAX = 65535


@dataclass(frozen=True, slots=True, kw_only=True)
class Execute:
    """A command to be run in a container.

    ``hidden_env`` are proxy settings, which do not count for the cache; ``arguments`` the build arguments in ``env``;
    ``script`` a program that is only there while it runs, as ``args[0]``.
    """

    args: tuple[str, ...]
    env: tuple[str, ...]
    hidden_env: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    user: str = ""
    cwd: str = "/"
    network: str = "default"
    mounts: tuple[RunMount, ...] = ()
    script: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inline:
    """A file whose text stands in the Dockerfile."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyFiles:
    """Files to be copied to ``destination``, an absolute path that ends in "/" if it has to be a directory.

    ``origin`` is a stage or an image as written, "" for the context.
    """

    sources: tuple[str, ...]
    destination: str
    inline: tuple[Inline, ...] = ()
    origin: str = ""
    chown: str = ""
    chmod: str = ""
    unpacks: bool = False
    parents: bool = False
    link: bool = False
    keep_git_dir: bool = False
    checksum: str = ""
    excludes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeDirectory:
    """A directory to be there."""

    path: str


Action = Execute | CopyFiles | MakeDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What the image is after an instruction, and what has to be done to its files, if anything."""

    config: ExecutionConfig
    scope: Scope
    created_by: str
    action: Action | None = None
    author: str = ""
    sets_command: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Before:
    """What the image is before an instruction; ``command_is_ours`` if this stage has had a CMD already."""

    config: ExecutionConfig
    scope: Scope
    command_is_ours: bool = False


def apply(statement: i.Statement, before: Before) -> Effect:
    """Return what an instruction does.

    Raises:
        DockerfileError: a word in it is malformed, or expands to something impossible.
    """
    return _EFFECTS[type(statement.body)](statement, before)


def begin(config: ExecutionConfig) -> ExecutionConfig:
    """Return the configuration that a stage begins with on a base image: there is a PATH, and no ONBUILD any more."""
    named = any(line.startswith("PATH=") for line in config.env)
    return replace(config, env=config.env if named else (*config.env, DEFAULT_PATH), on_build=())


def _effect(before: Before, created_by: str, **changes: object) -> Effect:
    # ``changes`` are fields of ExecutionConfig, which replace() checks
    config = replace(before.config, **changes)  # type: ignore[arg-type]
    return Effect(config=config, scope=before.scope.with_environment(config.env), created_by=created_by)


def _arg(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Arg)
    scope = before.scope.declare(s.source, s.body)
    return Effect(config=before.config, scope=scope, created_by=s.text)


def _env(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Env)
    pairs = _expanded(s, before, s.body.pairs)
    env = dict(line.partition("=")[::2] for line in before.config.env) | pairs
    lines = tuple(f"{name}={value}" for name, value in env.items())
    return _effect(before, f"ENV {_shown(pairs)}", env=lines)


def _label(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Label)
    pairs = _expanded(s, before, s.body.pairs)
    return _effect(before, f"LABEL {_shown(pairs)}", labels={**before.config.labels, **pairs})


def _expanded(s: i.Statement, before: Before, pairs: i.Pairs) -> dict[str, str]:
    word = before.scope.word
    return {word(s.source, name): word(s.source, value) for name, value in pairs}


def _shown(pairs: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _run(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Run)
    scope, config = before.scope, before.config
    arguments = tuple(f"{name}={value}" for name, value in sorted(scope.effective_arguments.items()))
    args, script = _run_command(s.body.command, config.shell or DEFAULT_SHELL)
    action = Execute(
        args=args,
        env=(*arguments, *config.env),
        hidden_env=tuple(f"{name}={value}" for name, value in sorted(scope.proxies.items())),
        arguments=arguments,
        user=config.user,
        cwd=config.working_dir or "/",
        network=s.body.network,
        mounts=_mounts(s, s.body, before),
        script=script,
    )
    shown = f"|{len(arguments)} {' '.join(arguments)} " if arguments else ""
    effect = _effect(before, f"RUN {shown}{' '.join(args)}")
    return replace(effect, action=action)


def _run_command(command: i.CommandLine, shell: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return what is executed, and the program that it is if that stands in the Dockerfile itself."""
    if not command.shell:
        return command.words, ""
    text, heredocs = command.words[0], command.heredocs
    alone = len(heredocs) == 1 and re.fullmatch(r"<<-?\s*\S+", re.sub(r"(['\"]).*?\1", "x", text))
    if not alone:
        return (*shell, "\n".join((text, *(each.source for each in heredocs)))), ""
    if heredocs[0].content.startswith("#!"):
        return (f"{SCRIPT_DIRECTORY}/{heredocs[0].name}",), heredocs[0].content
    return (*shell, heredocs[0].content), ""


def _mounts(s: i.Statement, run: i.Run, before: Before) -> tuple[RunMount, ...]:
    def expanded(text: str) -> str:
        return before.scope.word(s.source, text)

    try:
        return tuple(parse_mount(text, expanded, cwd=before.config.working_dir or "/") for text in run.mounts)
    except SpecError as error:
        if error.path:
            raise
        i.refuse(s.source, f"--mount: {error}", hint=error.hint)


def _cmd(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Cmd)
    words = _command(s.body.command, before)
    return replace(_effect(before, f"CMD {json.dumps(words)}", cmd=words), sets_command=True)


def _entrypoint(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Entrypoint)
    words = _command(s.body.command, before)
    # the base image's default arguments were meant for its own entry point
    cmd = before.config.cmd if before.command_is_ours else ()
    return _effect(before, f"ENTRYPOINT {json.dumps(words)}", entrypoint=words, cmd=cmd)


def _command(command: i.CommandLine, before: Before) -> tuple[str, ...]:
    shell = before.config.shell or DEFAULT_SHELL
    return (*shell, *command.words) if command.shell and command.words else command.words


def _copy(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Copy)
    body, scope = s.body, before.scope
    action = CopyFiles(
        sources=tuple(_written(s, before, source) for source in body.sources),
        destination=_destination(_written(s, before, body.destination), before.config.working_dir),
        inline=tuple(
            Inline(name=each.name, text=scope.text(s.source, each.content) if each.expand else each.content)
            for each in body.heredocs
        ),
        origin=body.origin,
        chown=scope.word(s.source, body.chown),
        chmod=scope.word(s.source, body.chmod),
        unpacks=body.unpacks,
        parents=body.parents,
        link=body.link,
        keep_git_dir=body.keep_git_dir,
        checksum=scope.word(s.source, body.checksum),
        excludes=tuple(scope.word(s.source, each) for each in body.excludes),
    )
    return replace(_effect(before, s.text), action=action)


def _written(s: i.Statement, before: Before, text: str) -> str:
    found = before.scope.word(s.source, text)
    if not found:
        i.refuse(s.source, f"{s.source.keyword}: {text} expands to nothing")
    return found


def _destination(path: str, working_dir: str) -> str:
    joined = posixpath.join(working_dir or "/", path)
    is_directory = path.endswith(("/", "/.")) or path == "."
    clean = _clean(joined)
    return clean if not is_directory or clean == "/" else f"{clean}/"


def _clean(path: str) -> str:
    return "/" + posixpath.normpath(f"/{path}").lstrip("/")


def _workdir(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Workdir)
    path = _clean(posixpath.join(before.config.working_dir or "/", _written(s, before, s.body.path)))
    return replace(_effect(before, f"WORKDIR {path}", working_dir=path), action=MakeDirectory(path=path))


def _user(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.User)
    user = _written(s, before, s.body.name)
    return _effect(before, f"USER {user}", user=user)


def _volume(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Volume)
    paths = tuple(_written(s, before, path) for path in s.body.paths)
    volumes = tuple(sorted({*before.config.volumes, *paths}))
    return _effect(before, f"VOLUME {' '.join(paths)}", volumes=volumes)


def _expose(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Expose)
    words = tuple(word for text in s.body.ports for word in before.scope.words(s.source, text))
    ports = {port for word in words for port in _ports(s, word)}
    return _effect(
        before, f"EXPOSE {' '.join(words)}", exposed_ports=tuple(sorted({*before.config.exposed_ports, *ports}))
    )


def _ports(s: i.Statement, text: str) -> list[str]:
    match = _PORT.fullmatch(text)
    first, last, protocol = match.groups() if match else ("", None, None)
    numbers = range(int(first or 0), int(last or first or 0) + 1)
    if match is None or not numbers or numbers[-1] > _PORT_MAX:
        i.refuse(s.source, f"invalid containerPort: {text}", hint="80, 80/udp or 8000-8010")
    return [f"{number}/{(protocol or 'tcp').lower()}" for number in numbers]


def _stopsignal(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Stopsignal)
    name = before.scope.word(s.source, s.body.signal)
    known = {each.name for each in signal.Signals} | {str(number) for number in range(1, signal.NSIG)}
    short = name.upper().removeprefix("SIG")
    if name not in known and f"SIG{short}" not in known and not re.fullmatch(r"RTM(IN|AX)([+-]\d+)?", short):
        i.refuse(s.source, f"invalid signal: {name}")
    return _effect(before, f"STOPSIGNAL {name}", stop_signal=name)


def _shell(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Shell)
    return _effect(before, f"SHELL {json.dumps(s.body.words)}", shell=s.body.words)


def _health(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Health)
    return _effect(before, s.text, healthcheck=s.body.check)


def _onbuild(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Onbuild)
    return _effect(before, s.text, on_build=(*before.config.on_build, s.body.trigger))


def _maintainer(s: i.Statement, before: Before) -> Effect:
    assert isinstance(s.body, i.Maintainer)
    return replace(_effect(before, s.text), author=s.body.name)


_EFFECTS: Mapping[type, Callable[[i.Statement, Before], Effect]] = {
    i.Arg: _arg,
    i.Env: _env,
    i.Label: _label,
    i.Run: _run,
    i.Cmd: _cmd,
    i.Entrypoint: _entrypoint,
    i.Copy: _copy,
    i.Expose: _expose,
    i.Volume: _volume,
    i.User: _user,
    i.Workdir: _workdir,
    i.Stopsignal: _stopsignal,
    i.Shell: _shell,
    i.Health: _health,
    i.Onbuild: _onbuild,
    i.Maintainer: _maintainer,
}
