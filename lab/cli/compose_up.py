"""`lab compose up` and `create`: services as the files say."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lab.cli.compose_project import add_services, add_timeout, operation, project_of, with_files
from lab.compose.graph import select
from lab.compose.model import Project
from lab.compose.plan import ImageWishes, Recreate, Wishes
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths


def add_up(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `up`."""
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="run in the background")
    add("--wait", action="store_true", help="in the background, once all run or are healthy")
    add("--wait-timeout", metavar="SECONDS", type=int, help="how long --wait waits")
    add("--abort-on-container-exit", action="store_true", help="stop all when one ends")
    add("--abort-on-container-failure", action="store_true", help="stop all when one fails")
    add("--exit-code-from", metavar="SERVICE", default="", help="return the exit code of this service; stops all then")
    add("--attach", metavar="SERVICE", action="append", default=[], help="show only the output of these; repeatable")
    add("--no-attach", metavar="SERVICE", action="append", default=[], help="do not show that of these; repeatable")
    add("--attach-dependencies", action="store_true", help="show also what those that are not named write")
    add("--no-color", action="store_true", help="without colours")
    add("--no-log-prefix", action="store_true", help="without the names before the lines")
    add("--timestamps", action="store_true", help="say when each line was written")
    add("--no-deps", action="store_true", help="leave the services alone that those named depend on")
    add("--no-start", action="store_true", help="only create")
    add("--always-recreate-deps", action="store_true", help="make also those anew that those named depend on")
    add("-V", "--renew-anon-volumes", action="store_true", help="begin with new volumes where they have no name")
    add("-w", "--watch", action="store_true", help="go on with `watch`")
    add("--menu", action=argparse.BooleanOptionalAction, help="accepted: there is none")
    _add_common(parser)
    add_timeout(parser)
    add_services(parser)


def add_create(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `create`."""
    _add_common(parser)
    add_services(parser)


def _add_common(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--build", action="store_true", help="build images first")
    add("--no-build", action="store_true", help="build no image, even if it is not there")
    add("--pull", choices=("always", "missing", "never", "build", "policy"), default="policy", help="when to pull")
    add("--quiet-pull", action="store_true", help="accepted: there is one line for each image anyway")
    add("--force-recreate", action="store_true", help="make containers anew, even if nothing has changed")
    add("--no-recreate", action="store_true", help="leave containers that are there as they are")
    add("--remove-orphans", action="store_true", help="remove containers of services that the files do not have")
    add("--scale", metavar="SERVICE=N", action="append", default=[], help="how many containers; repeatable")


def up(arguments: argparse.Namespace, paths: Paths) -> int:
    """Create and start containers; stay with them unless they are to run in the background."""
    _refuse_contradictions(arguments)
    project = with_files(project_of(arguments, paths, arguments.services))
    services = _selected(project, arguments.services, with_dependencies=not arguments.no_deps)
    acts, progress = operation(arguments, paths, project, wait_s=arguments.wait_timeout)
    wishes = Wishes(
        services=services,
        named=tuple(arguments.services),
        recreate=_recreate(arguments),
        recreate_dependencies=Recreate.ALWAYS if arguments.always_recreate_deps else _recreate_others(arguments),
        scale=_scale(project, arguments.scale),
        renews_volumes=arguments.renew_anon_volumes,
        removes_orphans=arguments.remove_orphans,
        starts=not arguments.no_start,
        awaits=arguments.wait,
        timeout_s=arguments.timeout,
    )
    acts.have_images(services, _images(arguments))
    if arguments.detach or arguments.wait or arguments.no_start or arguments.dry_run:
        acts.converge(wishes)
        return EXIT_OK
    from lab.cli.compose_attached import Attached, Ending  # only who stays waits for it

    ending = Ending(
        on_exit=arguments.abort_on_container_exit or bool(arguments.exit_code_from),
        on_failure=arguments.abort_on_container_failure,
        code_from=arguments.exit_code_from,
    )
    attached = Attached(acts, progress, _shown(arguments, project, services), arguments)
    if arguments.watch:
        from lab.cli.compose_watch import begin

        begin(acts, progress, services)
    return attached.run(lambda: acts.converge(wishes), services, ending)


def create(arguments: argparse.Namespace, paths: Paths) -> int:
    """Create containers, to start them later."""
    _refuse_contradictions(arguments)
    project = with_files(project_of(arguments, paths, arguments.services))
    services = _selected(project, arguments.services)
    acts, _ = operation(arguments, paths, project)
    wishes = Wishes(
        services=services,
        named=tuple(arguments.services),
        recreate=_recreate(arguments),
        recreate_dependencies=_recreate_others(arguments),
        scale=_scale(project, arguments.scale),
        removes_orphans=arguments.remove_orphans,
        starts=False,
    )
    acts.up(wishes, _images(arguments))
    return EXIT_OK


def _selected(project: Project, names: Sequence[str], *, with_dependencies: bool = True) -> tuple[str, ...]:
    services = select(project, names, with_dependencies=with_dependencies)
    if not services:
        raise SpecError("no service selected", hint="name one, or activate its profile with --profile")
    return services


_EXCLUSIVE = (
    ("build", "no_build"),
    ("force_recreate", "no_recreate"),
    ("abort_on_container_exit", "detach"),
    ("abort_on_container_failure", "detach"),
    ("abort_on_container_exit", "abort_on_container_failure"),
    ("wait", "abort_on_container_exit"),
    ("watch", "detach"),
    ("renew_anon_volumes", "no_recreate"),
)


def _refuse_contradictions(arguments: argparse.Namespace) -> None:
    for one, other in _EXCLUSIVE:
        if getattr(arguments, one, False) and getattr(arguments, other, False):
            flags = " and ".join(f"--{name.replace('_', '-')}" for name in (one, other))
            raise SpecError(f"{flags} are incompatible")
    if getattr(arguments, "exit_code_from", "") and arguments.detach:
        raise SpecError("--exit-code-from and --detach are incompatible")


def _recreate(arguments: argparse.Namespace) -> Recreate:
    return Recreate.ALWAYS if arguments.force_recreate else _recreate_others(arguments)


def _recreate_others(arguments: argparse.Namespace) -> Recreate:
    return Recreate.NEVER if arguments.no_recreate else Recreate.CHANGED


def _images(arguments: argparse.Namespace) -> ImageWishes:
    pull = "" if arguments.pull == "policy" else arguments.pull
    return ImageWishes(pull=pull, builds=arguments.build, builds_none=arguments.no_build)


def _scale(project: Project, texts: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        if not equals or not number.isdecimal():
            raise SpecError(f'invalid --scale option "{text}". Should be SERVICE=NUM')
        if name not in project.services:
            raise SpecError(f"no such service: {name}", hint=f"one of: {', '.join(project.services)}")
        found[name] = int(number)
    return found


def _shown(arguments: argparse.Namespace, project: Project, services: Sequence[str]) -> frozenset[str]:
    """Return the services whose output is shown."""
    wanted = set(arguments.attach or (arguments.services if not arguments.attach_dependencies else ()) or services)
    for name in (*arguments.attach, *arguments.no_attach):
        if name not in project.services:
            raise SpecError(f"no such service: {name}", hint=f"one of: {', '.join(project.services)}")
    if not arguments.attach:
        wanted = {name for name in wanted if project.services[name].attach}
    return frozenset(wanted - set(arguments.no_attach))
