"""`lab run` and `lab create`: docker's flags -> what is asked for, then made, started and listened to."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Iterator

from lab.cli import output
from lab.cli.attached_run import Attachment, stay_with
from lab.cli.run_flags import add_common, options_of
from lab.container.containers import Containers, Created
from lab.container.detach_keys import DETACH_KEYS
from lab.container.options.run import RunOptions
from lab.container.spawner_client import StartFailed
from lab.errors import EXIT_OK, ImageNotFound, LabError, SpecError, disk_hint
from lab.paths import Paths

EXIT_ENGINE_FAILED = 125


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="run in the background and print the id")
    add("--sig-proxy", action=argparse.BooleanOptionalAction, default=True, help="hand signals to the container")
    add("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave a terminal (%(default)s)")
    add("-a", "--attach", metavar="STREAM", action="append", default=[], help="stdin, stdout or stderr; repeatable")
    add_common(parser)


def add_create(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `create`."""
    add_common(parser)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a container, start it, and stay with it unless it is detached; return its exit code."""
    if arguments.tty and arguments.interactive and not arguments.detach and not os.isatty(0):
        raise SpecError("the input device is not a TTY", hint="leave -t out when standard input is a pipe")
    if arguments.attach and arguments.detach:
        raise SpecError("conflicting options: cannot specify both --attach and --detach")
    try:
        return _run(arguments, paths)
    except StartFailed as error:
        output.error(str(error), hint=error.hint)
        return error.exit_code
    except LabError as error:
        output.error(str(error), hint=error.hint)
        return EXIT_ENGINE_FAILED
    except OSError as error:
        if not (hint := disk_hint(error.errno)):
            raise
        output.error(f"cannot write to {error.filename or paths.root}: {error.strerror}", hint=hint)
        return EXIT_ENGINE_FAILED


def _run(arguments: argparse.Namespace, paths: Paths) -> int:
    options = options_of(arguments)
    with Containers(paths) as containers:
        container_id = _create(containers, arguments, options)
        try:
            if arguments.detach:
                containers.start(container_id).close()
                output.line(container_id)
                return EXIT_OK
            wanted = Attachment(
                streams=[name.lower() for name in arguments.attach] or ("stdin", "stdout", "stderr"),
                keys=arguments.detach_keys,
                forwards=arguments.sig_proxy,
            )
            start = containers.start
            return stay_with(containers, container_id, options, wanted, lambda streams: start(container_id, streams))
        except StartFailed:
            if options.removes:
                with contextlib.suppress(LabError):
                    containers.remove(container_id, force=True)
            raise


def create(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a container and print its id."""
    try:
        options = options_of(arguments)
    except SpecError as error:
        error.exit_code = EXIT_ENGINE_FAILED  # docker's, for what its command line refuses by itself
        raise
    with Containers(paths) as containers:
        output.line(_create(containers, arguments, options))
    return EXIT_OK


def _create(containers: Containers, arguments: argparse.Namespace, options: RunOptions) -> str:
    with _id_file(arguments.cidfile) as write:
        created = _created(containers, arguments, options)
        for warning in created.warnings:
            output.note(f"WARNING: {warning}")
        write(created.id)
    return created.id


def _created(containers: Containers, arguments: argparse.Namespace, options: RunOptions) -> Created:
    """Make a container, of an image that is fetched before if need be, or in any case."""
    if arguments.pull == "always":
        from lab.cli import registry_pull  # only who pulls waits for it

        registry_pull.fetch(containers.paths, options.image, platform=arguments.platform, quiet=arguments.quiet)
    try:
        return containers.create(options, name=arguments.name, environ=os.environ)
    except ImageNotFound:
        if arguments.pull != "missing":
            raise
    from lab.cli import registry_pull

    registry_pull.fetch_missing(containers.paths, options.image, platform=arguments.platform, quiet=arguments.quiet)
    return containers.create(options, name=arguments.name, environ=os.environ)


@contextlib.contextmanager
def _id_file(path: str) -> Iterator[Callable[[str], object]]:
    """Give what writes an id to a file that did not exist; it is removed again if no container is made."""
    if not path:
        yield lambda _: None
        return
    try:
        file = open(path, "x", encoding="ascii")  # noqa: SIM115 - closed below
    except FileExistsError:
        raise SpecError(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    try:
        with file:
            yield file.write
    except BaseException:
        os.unlink(path)
        raise
