"""From the flags of `lab compose` to the project that is meant, and what there is of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from lab.cli import output
from lab.cli.build_output import BuildOutput, ProgressMode
from lab.cli.compose_progress import Progress, mode_of
from lab.compose.existing import Existing, ExistingContainer, as_project, look
from lab.compose.graph import select
from lab.compose.load import load
from lab.compose.model import Project
from lab.compose.perform import Suppliers
from lab.compose.plan import BuildWishes
from lab.compose.project import SIDE_BY_SIDE, Manner, Operation
from lab.compose.steps import Step
from lab.container.containers import Containers
from lab.errors import NoComposeFile, SpecError, StateConflict
from lab.paths import Paths


def project_of(arguments: argparse.Namespace, paths: Paths, named: Sequence[str] = ()) -> Project:
    """Return the project of the files that the flags name; ``named`` are services that the command is about.

    Without files, a project that is named is what its containers tell of it.

    Raises:
        SpecError: a file is missing or wrong.
    """
    try:
        project = load(
            arguments.files,
            environment=os.environ,
            project_directory=arguments.project_directory,
            profiles=arguments.profiles,
            name=arguments.project_name,
            env_files=arguments.project_env_files,
            named=named,
        )
    except NoComposeFile:
        name = arguments.project_name or os.environ.get("COMPOSE_PROJECT_NAME", "")
        if not name:
            raise
        with Containers(paths) as containers:
            return as_project(name, look(containers, name))
    for text in project.warnings:
        output.note(f"WARNING: {text}")
    return project


def with_files(project: Project) -> Project:
    """Return a project that has files, for what cannot be done without.

    Raises:
        SpecError: it has none.
    """
    if not project.files:
        raise SpecError("no configuration file provided: not found", hint="name one with -f")
    return project


def operation(
    arguments: argparse.Namespace,
    paths: Paths,
    project: Project,
    *,
    builds: BuildWishes | None = None,
    quiet: bool = False,
    wait_s: int | None = None,
) -> tuple[Operation, Progress]:
    """Return what acts on a project, and what shows that."""
    progress = Progress(mode_of("quiet" if quiet else arguments.progress, ansi=arguments.ansi))
    build_mode = ProgressMode.QUIET if quiet or arguments.progress == "quiet" else ProgressMode.PLAIN
    suppliers = Suppliers(
        fetch=lambda name, platform: _fetch(paths, name, platform),
        build_observer=lambda _: BuildOutput(build_mode),
        environ=os.environ,
        builds=builds or BuildWishes(),
    )
    manner = Manner(
        side_by_side=arguments.parallel if arguments.parallel > 0 else SIDE_BY_SIDE,
        tell=_tell if arguments.dry_run else None,
        wait_s=wait_s,
    )
    return Operation(paths, project, progress, suppliers, manner), progress


def _fetch(paths: Paths, name: str, platform: str) -> None:
    from lab.cli import registry_pull  # only who pulls waits for it

    registry_pull.fetch(paths, name, platform=platform, quiet=True)


def _tell(step: Step) -> None:
    output.line(f"DRY-RUN MODE - {step.action}")


def chosen(
    project: Project, existing: Existing, services: Sequence[str], *, orphans: bool = False
) -> tuple[ExistingContainer, ...]:
    """Return the containers of services, of all where none is named, by service and number; not those of `run`.

    With ``orphans`` all are those as well that the files do not have.

    Raises:
        SpecError: there is no such service.
    """
    if services:
        wanted = select(project, services, with_dependencies=False)
        return tuple(each for name in wanted for each in existing.of(name))
    found = tuple(each for name in project.services for each in existing.of(name))
    return (*found, *existing.orphans(project)) if orphans else found


def one(project: Project, existing: Existing, service: str, index: int | None) -> ExistingContainer:
    """Return a service's container of this number, its first one if None.

    Raises:
        SpecError: there is no such service.
        StateConflict: it has no such container.
    """
    found = chosen(project, existing, [service])
    if index is not None:
        found = tuple(each for each in found if each.number == index)
        if not found:
            raise StateConflict(f'service "{service}" is not running container #{index}', hint="lab compose ps")
    if not found:
        raise StateConflict(f'service "{service}" is not running', hint=f"lab compose up -d {service}")
    return found[0]


def add_services(parser: argparse.ArgumentParser) -> None:
    """Add the services that are meant."""
    parser.add_argument("services", metavar="SERVICE", nargs="*", help="all where none is named")


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add how long a stop waits."""
    parser.add_argument("-t", "--timeout", metavar="SECONDS", type=int, help="how long to wait until one is killed")
