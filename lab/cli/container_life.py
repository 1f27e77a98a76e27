"""`lab start stop restart kill pause unpause wait rm rename`: what happens to containers."""

from __future__ import annotations

import argparse
import contextlib

from lab.cli import output
from lab.cli.attached_run import Attachment, stay_with
from lab.container import events
from lab.container.containers import Containers
from lab.container.detach_keys import DETACH_KEYS
from lab.container.options.signals import signal_number
from lab.container.spawner_client import StartFailed
from lab.errors import EXIT_FAILURE, EXIT_OK, NoSuchContainer, SpecError
from lab.paths import Paths


def add_names(parser: argparse.ArgumentParser) -> None:
    """Add the containers that are meant."""
    parser.add_argument("containers", metavar="CONTAINER", nargs="+", help="name, id, or the beginning of an id")


def add_start(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `start`."""
    parser.add_argument("-a", "--attach", action="store_true", help="stay with it: its output, signals and exit code")
    parser.add_argument("-i", "--interactive", action="store_true", help="stay with it, its standard input included")
    parser.add_argument("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave (%(default)s)")
    parser.add_argument("--sig-proxy", action=argparse.BooleanOptionalAction, default=True, help="hand signals on")
    add_names(parser)


def start(arguments: argparse.Namespace, paths: Paths) -> int:
    """Start containers; stay with one if asked to."""
    stays = arguments.attach or arguments.interactive
    if stays and len(arguments.containers) > 1:
        raise SpecError("you cannot start and attach multiple containers at once")
    with Containers(paths) as containers:
        if not stays:
            return output.each(arguments.containers, lambda reference: _start(containers, reference))
        container = containers.get(arguments.containers[0])
        names = ("stdin", "stdout", "stderr") if arguments.interactive else ("stdout", "stderr")
        wanted = Attachment(streams=names, keys=arguments.detach_keys, forwards=arguments.sig_proxy)
        begin = containers.start
        options = container.record.options
        try:
            return stay_with(containers, container.id, options, wanted, lambda streams: begin(container.id, streams))
        except StartFailed as error:  # of whose code docker's `start` knows nothing
            output.error(str(error), hint=error.hint)
            return EXIT_FAILURE


def _start(containers: Containers, reference: str) -> None:
    container = containers.get(reference)
    if not container.is_running:  # else done already, as docker sees it
        containers.start(container.id).close()


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stop`."""
    parser.add_argument("-t", "--time", "--timeout", metavar="SECONDS", type=int, help="how long to wait; -1 for ever")
    parser.add_argument("-s", "--signal", metavar="SIGNAL", default="", help="in place of the container's own")
    add_names(parser)


def stop(arguments: argparse.Namespace, paths: Paths) -> int:
    """Stop containers."""
    number = signal_number(arguments.signal) if arguments.signal else None
    with Containers(paths) as containers:
        return output.each(
            arguments.containers,
            lambda reference: containers.stop(reference, timeout_s=arguments.time, signal_number=number),
        )


add_restart = add_stop


def restart(arguments: argparse.Namespace, paths: Paths) -> int:
    """Stop containers and start them again."""
    number = signal_number(arguments.signal) if arguments.signal else None
    with Containers(paths) as containers:

        def again(reference: str) -> None:
            containers.stop(reference, timeout_s=arguments.time, signal_number=number)
            container_id = containers.find(reference)
            containers.start(container_id).close()
            events.note(containers.engine.directory.bundle(container_id), "restart")

        return output.each(arguments.containers, again)


def add_kill(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kill`."""
    parser.add_argument("-s", "--signal", metavar="SIGNAL", default="KILL", help="name or number (default: KILL)")
    add_names(parser)


def kill(arguments: argparse.Namespace, paths: Paths) -> int:
    """Send a signal."""
    number = signal_number(arguments.signal)
    with Containers(paths) as containers:
        return output.each(arguments.containers, lambda reference: containers.kill(reference, number))


add_pause = add_unpause = add_wait = add_names


def pause(arguments: argparse.Namespace, paths: Paths) -> int:
    """Freeze containers."""
    with Containers(paths) as containers:
        return output.each(arguments.containers, containers.pause)


def unpause(arguments: argparse.Namespace, paths: Paths) -> int:
    """Let containers go on."""
    with Containers(paths) as containers:
        return output.each(arguments.containers, containers.unpause)


def wait(arguments: argparse.Namespace, paths: Paths) -> int:
    """Wait until containers end, and print the exit code of each."""
    with Containers(paths) as containers:
        for reference in arguments.containers:
            output.line(str(containers.wait(containers.find(reference))))
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rm`."""
    parser.add_argument("-f", "--force", action="store_true", help="kill it first if it runs")
    parser.add_argument("-v", "--volumes", action="store_true", help="its anonymous volumes as well")
    add_names(parser)


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove containers."""
    with Containers(paths) as containers:

        def remove(reference: str) -> None:
            with contextlib.suppress(*(NoSuchContainer,) * arguments.force):  # somebody may have been faster
                containers.remove(reference, force=arguments.force, volumes=arguments.volumes)

        wanted = arguments.containers
        return output.each((name for name in wanted if not arguments.force or _is_there(containers, name)), remove)


def _is_there(containers: Containers, reference: str) -> bool:
    """Return whether there is such a container; to be told that there is not is no failure of a removal by force."""
    try:
        containers.find(reference)
    except NoSuchContainer as error:
        output.error(str(error))
        return False
    return True


def add_rename(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rename`."""
    parser.add_argument("container", metavar="CONTAINER", help="name, id, or the beginning of an id")
    parser.add_argument("new_name", metavar="NEW_NAME", help="what nobody is called")


def rename(arguments: argparse.Namespace, paths: Paths) -> int:
    """Give a container another name."""
    with Containers(paths) as containers:
        containers.rename(arguments.container, arguments.new_name)
    return EXIT_OK
