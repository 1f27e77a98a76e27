"""`lab exec` and `lab attach`: going into a container that runs."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from lab.cli import output
from lab.cli.attached_run import STDERR, STDIN, STDOUT, Attachment, stay_with
from lab.cli.attachment import Relay, following_size, raw_terminal
from lab.cli.run_flags import environment_lines
from lab.container import console, events
from lab.container.containers import Container, Containers
from lab.container.detach_keys import DETACH_KEYS, Detached, DetachFilter, detach_sequence
from lab.container.spawner_client import Running, StartFailed, Stdio
from lab.container.spec.runtime import Process
from lab.errors import EXIT_FAILURE, EXIT_OK, SpecError, StateConflict
from lab.linux import pty
from lab.paths import Paths

EXIT_CANNOT_EXECUTE = 126


def add_exec(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `exec`."""
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="run it in the background")
    add("-i", "--interactive", action="store_true", help="keep standard input open")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable; repeatable")
    add("--env-file", metavar="FILE", action="append", default=[], help="variables, one a line; repeatable")
    add("-w", "--workdir", metavar="DIR", default="", help="working directory (default: the container's)")
    add("-u", "--user", metavar="USER[:GROUP]", default="", help="name or number (default: the container's)")
    add("--privileged", action="store_true", help="all capabilities that the host has")
    add("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave it (%(default)s)")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and its arguments")


def exec(arguments: argparse.Namespace, paths: Paths) -> int:  # noqa: A001 - the verb's name
    """Run a program in a running container, and return its exit code."""
    if not arguments.command:
        raise SpecError('"lab exec" requires at least 2 arguments', hint="lab exec --help")
    if arguments.tty and arguments.interactive and not arguments.detach and not os.isatty(STDIN):
        raise SpecError("the input device is not a TTY", hint="leave -t out when standard input is a pipe")
    with Containers(paths) as containers:
        container = _running(containers, arguments.container)
        process = containers.process(
            container,
            tuple(arguments.command),
            env=environment_lines(arguments.env_file, arguments.env),
            cwd=arguments.workdir,
            user=arguments.user,
            privileged=arguments.privileged,
            terminal=arguments.tty,
        )
        try:
            return _exec(containers, container, process, arguments, exec_id=_tell_begin(container, process))
        except StartFailed as error:
            output.error(str(error), hint=error.hint)
            return max(error.exit_code, EXIT_CANNOT_EXECUTE)  # docker's, also where there is no such user


def _tell_begin(container: Container, process: Process) -> str:
    """Let the container's events tell of a program that is executed, and return the id under which they do."""
    actor, exec_id = events.Actor(container.state.bundle), secrets.token_hex(32)
    for action in ("exec_create", "exec_start"):
        actor.note(f"{action}: {' '.join(process.args)}", events.execution(exec_id))
    return exec_id


def _running(containers: Containers, reference: str) -> Container:
    container = containers.get(reference)
    if not container.is_running:
        raise StateConflict(f"container {container.id} is not running", hint=f"lab start {container.name}")
    if container.is_paused:
        raise StateConflict(f"Container {container.id} is paused, unpause the container before exec")
    return container


def _exec(
    containers: Containers, container: Container, process: Process, arguments: argparse.Namespace, *, exec_id: str
) -> int:
    def begin(stdio: Stdio) -> Running:
        return containers.engine.exec(container.id, process, stdio=stdio, detached=True, exec_id=exec_id)

    if arguments.detach:
        with _null() as null:
            begin(Stdio(stdin=null, stdout=null, stderr=null)).close()
        return EXIT_OK
    if arguments.tty:
        return _exec_terminal(begin, arguments)
    relay = Relay()
    with _null() as null, _streams(relay, STDIN if arguments.interactive else null) as stdio:
        running = begin(stdio)
    relay.run()
    return _code(running)


def _exec_terminal(begin: Callable[[Stdio], Running], arguments: argparse.Namespace) -> int:
    with ExitStack() as stack:
        pair = stack.enter_context(console.Pair())
        running = begin(pair.stdio)
        master = pair.receive()
        relay = Relay(keys=DetachFilter(detach_sequence(arguments.detach_keys)))
        relay.output(os.dup(master), STDOUT)
        if arguments.interactive:
            stack.enter_context(raw_terminal(STDIN))
            relay.input(STDIN, os.dup(master))
        stack.enter_context(following_size(lambda rows, columns: pty.set_size(master, rows, columns)))
        try:
            relay.run()
        except Detached:
            return EXIT_OK
        return _code(running)


@contextmanager
def _streams(relay: Relay, stdin: int) -> Iterator[Stdio]:
    """Give the program our own streams, but a pipe in place of a terminal, which would open the host's to it."""
    given: list[int] = []

    def pipe(ours: int, *, is_input: bool) -> int:
        if not os.isatty(ours):
            return ours
        ends = os.pipe()
        theirs, kept = ends if is_input else ends[::-1]
        given.append(theirs)
        relay.input(ours, kept) if is_input else relay.output(kept, ours)
        return theirs

    try:
        yield Stdio(
            stdin=pipe(stdin, is_input=True),
            stdout=pipe(STDOUT, is_input=False),
            stderr=pipe(STDERR, is_input=False),
        )
    finally:
        for descriptor in given:
            os.close(descriptor)


def _code(running: Running) -> int:
    code = running.wait()
    return EXIT_FAILURE if code is None else code


@contextmanager
def _null() -> Iterator[int]:
    descriptor = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def add_attach(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `attach`."""
    add = parser.add_argument
    add("--no-stdin", action="store_true", help="do not connect standard input")
    add("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave it (%(default)s)")
    add("--sig-proxy", action=argparse.BooleanOptionalAction, default=True, help="hand signals to the container")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def attach(arguments: argparse.Namespace, paths: Paths) -> int:
    """Be connected with a running container until it ends, and return its exit code."""
    with Containers(paths) as containers:
        container = containers.get(arguments.container)
        if not container.is_running:
            message = "You cannot attach to a stopped container, start it first"
            raise StateConflict(message, hint=f"lab start -a {container.name}")
        if container.is_paused:
            raise StateConflict("You cannot attach to a paused container, unpause it first")
        names = ("stdout", "stderr") if arguments.no_stdin else ("stdin", "stdout", "stderr")
        wanted = Attachment(streams=names, keys=arguments.detach_keys, forwards=arguments.sig_proxy)
        join = containers.engine.spawner.attach
        options = container.record.options
        return stay_with(containers, container.id, options, wanted, lambda streams: join(container.id, streams))
