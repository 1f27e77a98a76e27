"""`lab compose run exec attach cp`: going into services, by the same ways as `lab run`, `exec`, `attach` and `cp`."""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys

from lab.cli import container_files, container_inside, output
from lab.cli.attached_run import Attachment, stay_with
from lab.cli.compose_project import chosen, one, operation, project_of, with_files
from lab.cli.list_flags import pairs
from lab.cli.run_flags import environment_lines, volume
from lab.compose import files, one_off, plan
from lab.compose.graph import select
from lab.compose.model import Project
from lab.compose.naming import image_name
from lab.compose.one_off import OneOff
from lab.compose.options import Place
from lab.compose.plan import ImageWishes, Wishes
from lab.container.containers import Containers
from lab.container.detach_keys import DETACH_KEYS
from lab.container.spawner_client import StartFailed
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths

_SLUG_BYTES = 32


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="run in the background and print the id")
    add("--rm", action="store_true", help="remove the container when it has ended")
    add("-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable; repeatable")
    add("--env-from-file", metavar="FILE", action="append", default=[], help="variables, one a line; repeatable")
    add("-v", "--volume", metavar="SOURCE:PATH[:ro]", action="append", default=[], help="a volume or bind; repeatable")
    add("-p", "--publish", metavar="[HOST:]CONTAINER", action="append", default=[], help="a port; repeatable")
    add("-P", "--service-ports", action="store_true", help="publish the service's ports as well")
    add("-l", "--label", metavar="NAME[=VALUE]", action="append", default=[], help="a label; repeatable")
    add("-u", "--user", metavar="USER[:GROUP]", default="", help="name or number")
    add("-w", "--workdir", metavar="DIR", default="", help="working directory")
    add("--name", default="", help="what the container is called")
    add("--entrypoint", metavar="COMMAND", default=None, help="in place of the service's; empty for none")
    add("--cap-add", metavar="CAPABILITY", action="append", default=[], help="repeatable")
    add("--cap-drop", metavar="CAPABILITY", action="append", default=[], help="repeatable")
    add("--no-deps", action="store_true", help="do not start what the service depends on")
    add("--use-aliases", action="store_true", help="let it have the service's names on its networks")
    add("--build", action="store_true", help="build the image first")
    add("--remove-orphans", action="store_true", help="remove containers of services that the files do not have")
    add("-q", "--quiet", action="store_true", help="show nothing of what is started before")
    add("-i", "--interactive", action=argparse.BooleanOptionalAction, default=True, help="connect standard input")
    _add_no_terminal(parser)
    add("service", metavar="SERVICE", help="whose container it is to be")
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="in place of the service's")


def _add_no_terminal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-T", "--no-TTY", "--no-tty", dest="no_terminal", action="store_true", help="without a terminal"
    )
    parser.add_argument("-t", "--tty", action="store_true", help="accepted: there is one where standard input is one")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Run a command in a new container of a service, and return its exit code."""
    project = with_files(project_of(arguments, paths, [arguments.service]))
    acts, progress = operation(arguments, paths, project, quiet=arguments.quiet)
    name = arguments.service
    acts.have_images((name,), ImageWishes(builds=arguments.build))
    needed = tuple(each for each in select(project, [name]) if each != name)
    if needed and not arguments.no_deps:
        acts.up(Wishes(services=needed, removes_orphans=arguments.remove_orphans), ImageWishes())
        acts.carry_out(plan.conditions_of(project, name, acts.existing()))
    acts.carry_out(plan.foundations(project, acts.existing(), (name,)))
    progress.settle()
    if arguments.dry_run:
        return EXIT_OK
    with Containers(paths) as containers:
        return _run(containers, project, arguments)


def _run(containers: Containers, project: Project, arguments: argparse.Namespace) -> int:
    service, slug = project.services[arguments.service], secrets.token_hex(_SLUG_BYTES)
    place = Place(
        image_id=containers.images.resolve(image_name(project, service)).config_digest,
        files=files.places(containers.paths, project, service),
    )
    options = one_off.one_off_options(project, service, _asked(arguments), place, slug=slug)
    called = arguments.name or one_off.name_of(project, service, slug)
    created = containers.create(options, name=called, environ=os.environ)
    for warning in created.warnings:
        output.note(f"WARNING: {warning}")
    try:
        if arguments.detach:
            containers.start(created.id).close()
            output.line(created.id)
            return EXIT_OK
        names = ("stdin", "stdout", "stderr") if options.open_stdin else ("stdout", "stderr")
        wanted = Attachment(streams=names)
        return stay_with(containers, created.id, options, wanted, lambda streams: containers.start(created.id, streams))
    except StartFailed as error:
        if options.removes:
            containers.remove(created.id, force=True)
        output.error(str(error), hint=error.hint)
        return error.exit_code


def _asked(arguments: argparse.Namespace) -> OneOff:
    given = arguments.entrypoint
    return OneOff(
        command=tuple(arguments.command),
        entrypoint=None if given is None else tuple(shlex.split(given)),
        env=environment_lines(arguments.env_from_file, arguments.env),
        labels=pairs(arguments.label),
        volumes=tuple(map(volume, arguments.volume)),
        publish=tuple(arguments.publish),
        user=arguments.user,
        workdir=arguments.workdir,
        cap_add=tuple(arguments.cap_add),
        cap_drop=tuple(arguments.cap_drop),
        terminal=_has_terminal(arguments) and not arguments.detach,
        interactive=arguments.interactive and not arguments.detach,
        removes=arguments.rm,
        service_ports=arguments.service_ports,
        aliases=arguments.use_aliases,
    )


def _has_terminal(arguments: argparse.Namespace) -> bool:
    return not arguments.no_terminal and sys.stdin.isatty() and sys.stdout.isatty()


def add_exec(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `exec`."""
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="run it in the background")
    add("-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable; repeatable")
    add("-u", "--user", metavar="USER[:GROUP]", default="", help="name or number (default: the container's)")
    add("-w", "--workdir", metavar="DIR", default="", help="working directory (default: the container's)")
    add("--privileged", action="store_true", help="all capabilities that the host has")
    add("--index", metavar="N", type=int, help="in the service's container of this number")
    add("-i", "--interactive", action=argparse.BooleanOptionalAction, default=True, help="connect standard input")
    _add_no_terminal(parser)
    add("service", metavar="SERVICE", help="in whose container")
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and its arguments")


def exec(arguments: argparse.Namespace, paths: Paths) -> int:  # noqa: A001 - the verb's name
    """Run a program in a running container of a service, and return its exit code."""
    if not arguments.command:
        raise SpecError('"lab compose exec" requires at least 2 arguments', hint="lab compose exec --help")
    project = project_of(arguments, paths, [arguments.service])
    acts, _ = operation(arguments, paths, project)
    wanted = argparse.Namespace(
        detach=arguments.detach,
        interactive=arguments.interactive,
        tty=_has_terminal(arguments),
        env=arguments.env,
        env_file=[],
        workdir=arguments.workdir,
        user=arguments.user,
        privileged=arguments.privileged,
        detach_keys=DETACH_KEYS,
        container=one(project, acts.existing(), arguments.service, arguments.index).id,
        command=arguments.command,
    )
    return container_inside.exec(wanted, paths)


def add_attach(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `attach`."""
    add = parser.add_argument
    add("--index", metavar="N", type=int, help="with the service's container of this number")
    add("--no-stdin", action="store_true", help="do not connect standard input")
    add("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave it (%(default)s)")
    add("--sig-proxy", action=argparse.BooleanOptionalAction, default=True, help="hand signals to the container")
    add("service", metavar="SERVICE", help="with whose container")


def attach(arguments: argparse.Namespace, paths: Paths) -> int:
    """Be connected with a running container of a service until it ends, and return its exit code."""
    project = project_of(arguments, paths, [arguments.service])
    acts, _ = operation(arguments, paths, project)
    arguments.container = one(project, acts.existing(), arguments.service, arguments.index).id
    return container_inside.attach(arguments, paths)


def add_cp(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cp`."""
    add = parser.add_argument
    add("-a", "--archive", action="store_true", help="keep user and group")
    add("-L", "--follow-link", action="store_true", help="copy what a link at SOURCE leads to")
    add("--all", action="store_true", help="also the containers of `run`")
    add("--index", metavar="N", type=int, help="the service's container of this number (default: all, or the first)")
    add("source", metavar="[SERVICE:]SOURCE", help="path, or - for a tar on standard input")
    add("destination", metavar="[SERVICE:]DESTINATION", help="path, or - for a tar on standard output")


def cp(arguments: argparse.Namespace, paths: Paths) -> int:
    """Copy files out of a service's container, or into all of its containers."""
    into, _, path = arguments.destination.partition(":")
    is_in = ":" in arguments.destination and not arguments.destination.startswith((".", "/", "-"))
    service = into if is_in else arguments.source.partition(":")[0]
    project = project_of(arguments, paths, [service])
    acts, _ = operation(arguments, paths, project)
    existing = acts.existing()
    first = one(project, existing, service, arguments.index)
    if not is_in:
        source = f"{first.id}:{arguments.source.partition(':')[2]}"
        return _copy(arguments, paths, source, arguments.destination)
    every = (first,) if arguments.index is not None else chosen(project, existing, [service])
    one_offs = (each for each in existing.containers if each.service == service and each.is_one_off)
    for each in (*every, *(one_offs if arguments.all else ())):
        _copy(arguments, paths, arguments.source, f"{each.id}:{path}")
    return EXIT_OK


def _copy(arguments: argparse.Namespace, paths: Paths, source: str, destination: str) -> int:
    wanted = argparse.Namespace(
        archive=arguments.archive,
        follow_link=arguments.follow_link,
        quiet=True,
        source=source,
        destination=destination,
    )
    return container_files.cp(wanted, paths)
