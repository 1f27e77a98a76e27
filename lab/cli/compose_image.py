"""`lab compose build pull push`: the images of a project's services."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from lab.cli import output
from lab.cli.compose_project import add_services, operation, project_of, with_files
from lab.compose.graph import select
from lab.compose.model import Project
from lab.compose.naming import image_name
from lab.compose.plan import BuildWishes, ImageWishes
from lab.errors import EXIT_FAILURE, EXIT_OK, LabError
from lab.paths import Paths


def add_build(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `build`."""
    add = parser.add_argument
    add("--no-cache", action="store_true", help="make every step anew")
    add("--pull", action="store_true", help="fetch base images even if they are there")
    add("--build-arg", metavar="NAME[=VALUE]", action="append", default=[], help="value of an ARG; repeatable")
    add("--with-dependencies", action="store_true", help="also the images of those that the services depend on")
    add("--push", action="store_true", help="send the images to their registries")
    add("-q", "--quiet", action="store_true", help="show nothing but errors")
    add_services(parser)


def build(arguments: argparse.Namespace, paths: Paths) -> int:
    """Build the images of services that can be built."""
    project = with_files(project_of(arguments, paths, arguments.services))
    services = _with_build(project, select(project, arguments.services, with_dependencies=arguments.with_dependencies))
    wishes = BuildWishes(no_cache=arguments.no_cache, pull=arguments.pull, args=_args(arguments.build_arg))
    acts, progress = operation(arguments, paths, project, builds=wishes, quiet=arguments.quiet)
    if not services:
        progress.warn("No services to build")
        return EXIT_OK
    acts.have_images(services, ImageWishes(builds=True))
    if arguments.push and not arguments.dry_run:
        return _push(paths, project, [name for name in services if project.services[name].image], quiet=arguments.quiet)
    return EXIT_OK


def _with_build(project: Project, services: Sequence[str]) -> list[str]:
    return [name for name in services if project.services[name].build is not None]


def _args(texts: Sequence[str]) -> dict[str, str]:
    """Return the arguments; one without value has that of the environment, or is none if that has none either."""
    pairs = (text.partition("=") for text in texts)
    return {
        name: value if equals else os.environ[name] for name, equals, value in pairs if equals or name in os.environ
    }


def add_pull(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pull`."""
    add = parser.add_argument
    add("-q", "--quiet", action="store_true", help="show nothing but errors")
    add("--include-deps", action="store_true", help="also the images of those that the services depend on")
    add("--ignore-buildable", action="store_true", help="leave out what can be built")
    add("--ignore-pull-failures", action="store_true", help="go on with the others")
    add("--policy", choices=("missing", "always"), default="always", help="when to pull (%(default)s)")
    add_services(parser)


def pull(arguments: argparse.Namespace, paths: Paths) -> int:
    """Fetch images."""
    project = with_files(project_of(arguments, paths, arguments.services))
    services = select(project, arguments.services, with_dependencies=arguments.include_deps)
    if arguments.ignore_buildable:
        services = tuple(name for name in services if project.services[name].build is None)
    acts, progress = operation(arguments, paths, project, quiet=arguments.quiet)
    wishes = ImageWishes(pull=arguments.policy, builds_none=True)
    if not arguments.ignore_pull_failures:
        acts.have_images(services, wishes)
        return EXIT_OK
    for name in services:
        try:
            acts.have_images((name,), wishes)
        except LabError as error:
            progress.warn(str(error))
    return EXIT_OK


def add_push(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `push`."""
    add = parser.add_argument
    add("-q", "--quiet", action="store_true", help="show the images' names only")
    add("--include-deps", action="store_true", help="also the images of those that the services depend on")
    add("--ignore-push-failures", action="store_true", help="go on with the others")
    add_services(parser)


def push(arguments: argparse.Namespace, paths: Paths) -> int:
    """Send images that have a name of their own to their registries."""
    project = with_files(project_of(arguments, paths, arguments.services))
    services = select(project, arguments.services, with_dependencies=arguments.include_deps)
    named = [name for name in _with_build(project, services) if project.services[name].image]
    code = _push(paths, project, named, quiet=arguments.quiet)
    return EXIT_OK if arguments.ignore_push_failures else code


def _push(paths: Paths, project: Project, services: Sequence[str], *, quiet: bool) -> int:
    from lab.cli.registry_push import push as push_image  # only who pushes waits for it

    code = EXIT_OK
    for name in services:
        image = image_name(project, project.services[name])
        wanted = argparse.Namespace(name=image, all_tags=False, quiet=quiet, insecure=False)
        try:
            push_image(wanted, paths)
        except LabError as error:
            output.error(f"{name}: {error}", hint=error.hint)
            code = EXIT_FAILURE
    return code
