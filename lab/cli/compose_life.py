"""`lab compose down start stop restart kill rm pause unpause wait`: what becomes of a project's containers."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable

from lab.cli import output
from lab.cli.compose_project import add_services, add_timeout, chosen, operation, project_of
from lab.compose.existing import ExistingContainer
from lab.compose.graph import select
from lab.compose.plan_down import DownWishes
from lab.container.containers import Containers
from lab.container.options.signals import signal_number
from lab.errors import EXIT_OK, NoSuchContainer, StateConflict
from lab.paths import Paths


def add_down(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `down`."""
    add = parser.add_argument
    add("-v", "--volumes", action="store_true", help="remove the project's volumes as well, named or not")
    add("--rmi", choices=("all", "local"), default="", help="remove images: all, or those without a name of their own")
    add("--remove-orphans", action="store_true", help="remove containers of services that the files do not have")
    add_timeout(parser)
    add_services(parser)


def down(arguments: argparse.Namespace, paths: Paths) -> int:
    """Stop and remove a project, or some services of it."""
    project = project_of(arguments, paths, arguments.services)
    services = select(project, arguments.services, with_dependencies=False) if arguments.services else project.services
    acts, progress = operation(arguments, paths, project)
    wishes = DownWishes(
        volumes=arguments.volumes,
        images=arguments.rmi,
        removes_orphans=arguments.remove_orphans,
        timeout_s=arguments.timeout,
    )
    if not acts.down(tuple(services), wishes):
        progress.warn(f'No resource found to remove for project "{project.name}".')
    return EXIT_OK


add_start = add_services


def start(arguments: argparse.Namespace, paths: Paths) -> int:
    """Start services that are there, with what they wait for."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    services = select(project, arguments.services) if project.services else ()
    existing = acts.existing()
    for name in arguments.services or services:
        if not existing.of(name) and project.services[name].replicas:
            raise StateConflict(f'service "{name}" has no container to start', hint=f"lab compose up -d {name}")
    acts.start(services)
    return EXIT_OK


def add_stop(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stop`."""
    add_timeout(parser)
    add_services(parser)


def stop(arguments: argparse.Namespace, paths: Paths) -> int:
    """Stop services, those that depend on others before them."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    acts.stop(chosen(project, acts.existing(), arguments.services), timeout_s=arguments.timeout)
    return EXIT_OK


def add_restart(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `restart`."""
    parser.add_argument("--no-deps", action="store_true", help="leave services that want to restart with them")
    add_timeout(parser)
    add_services(parser)


def restart(arguments: argparse.Namespace, paths: Paths) -> int:
    """Stop services and start them again."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    wanted = list(arguments.services)
    if wanted and not arguments.no_deps:
        wanted += [
            name
            for name, service in project.services.items()
            if name not in wanted and any(each.restart for other, each in service.depends_on.items() if other in wanted)
        ]
    containers = chosen(project, acts.existing(), wanted)
    acts.stop(containers, timeout_s=arguments.timeout)
    acts.start(tuple(dict.fromkeys(each.service for each in containers if each.service in project.services)))
    return EXIT_OK


def add_kill(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `kill`."""
    parser.add_argument("-s", "--signal", metavar="SIGNAL", default="KILL", help="name or number (default: KILL)")
    parser.add_argument("--remove-orphans", action="store_true", help="remove containers that the files do not have")
    add_services(parser)


def kill(arguments: argparse.Namespace, paths: Paths) -> int:
    """Send a signal to services."""
    number = signal_number(arguments.signal)
    code = _each(arguments, paths, "Killed", lambda containers, each: containers.kill(each.id, number))
    if arguments.remove_orphans:
        project = project_of(arguments, paths, arguments.services)
        acts, _ = operation(arguments, paths, project)
        acts.remove(acts.existing().orphans(project), volumes=False, force=True)
    return code


add_pause = add_unpause = add_services


def pause(arguments: argparse.Namespace, paths: Paths) -> int:
    """Freeze services."""
    return _each(arguments, paths, "Paused", lambda containers, each: containers.pause(each.id))


def unpause(arguments: argparse.Namespace, paths: Paths) -> int:
    """Let services go on."""
    return _each(arguments, paths, "Unpaused", lambda containers, each: containers.unpause(each.id))


def _each(
    arguments: argparse.Namespace, paths: Paths, word: str, act: Callable[[Containers, ExistingContainer], None]
) -> int:
    """Do something to each container that runs."""
    project = project_of(arguments, paths, arguments.services)
    acts, progress = operation(arguments, paths, project)
    with Containers(paths) as containers:
        for each in chosen(project, acts.existing(), arguments.services):
            if each.is_up:
                act(containers, each)
                progress.progress(f"Container {each.name}", word)
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rm`."""
    add = parser.add_argument
    add("-f", "--force", action="store_true", help="do not ask")
    add("-s", "--stop", action="store_true", help="stop them first")
    add("-v", "--volumes", action="store_true", help="remove their anonymous volumes as well")
    add_services(parser)


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove containers that do not run."""
    project = project_of(arguments, paths, arguments.services)
    acts, progress = operation(arguments, paths, project)
    found = chosen(project, acts.existing(), arguments.services)
    if arguments.stop:
        acts.stop(found)
        found = chosen(project, acts.existing(), arguments.services)
    gone = tuple(each for each in found if not each.is_up)
    if not gone:
        progress.warn("No stopped containers")
        return EXIT_OK
    names = ", ".join(each.name for each in gone)
    if arguments.force or output.confirmed(f"Going to remove {names}"):
        acts.remove(gone, volumes=arguments.volumes)
    return EXIT_OK


def add_wait(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wait`."""
    parser.add_argument("--down-project", action="store_true", help="remove the project when the first one ends")
    parser.add_argument("services", metavar="SERVICE", nargs="+", help="whose containers are waited for")


def wait(arguments: argparse.Namespace, paths: Paths) -> int:
    """Wait until services end, and return the exit code of the last container."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    code: int | None = EXIT_OK
    with Containers(paths) as containers:
        for each in chosen(project, acts.existing(), arguments.services):
            with contextlib.suppress(NoSuchContainer):
                code = containers.wait(each.id)
                output.line(str(code))
                if arguments.down_project:
                    break
    if arguments.down_project:
        acts.down(tuple(project.services), DownWishes())
    return code or EXIT_OK
