"""`lab compose watch`: services follow the files that they were made of."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lab.cli.compose_logs import in_thread
from lab.cli.compose_progress import Progress
from lab.cli.compose_project import add_services, operation, project_of, with_files
from lab.compose import hooks, plan_down
from lab.compose import watch as watching
from lab.compose.graph import select
from lab.compose.model import Hook, WatchAction
from lab.compose.plan import ImageWishes, Wishes
from lab.compose.project import Operation
from lab.compose.watch import Change, Watcher
from lab.container import inside
from lab.container.containers import Containers
from lab.errors import EXIT_OK, LabError, SpecError
from lab.paths import Paths

_SYNCS = (WatchAction.SYNC, WatchAction.SYNC_RESTART, WatchAction.SYNC_EXEC)


def add_watch(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `watch`."""
    add = parser.add_argument
    add("--no-up", action="store_true", help="do not start the services first")
    add("--quiet", action="store_true", help="show nothing of builds")
    add("--prune", action=argparse.BooleanOptionalAction, default=True, help="accepted: an image without name is left")
    add_services(parser)


def watch(arguments: argparse.Namespace, paths: Paths) -> int:
    """Start services, then sync, restart and rebuild them as their files change, until Ctrl-C."""
    project = with_files(project_of(arguments, paths, arguments.services))
    services = select(project, arguments.services)
    acts, progress = operation(arguments, paths, project, quiet=arguments.quiet)
    if not arguments.no_up:
        acts.up(Wishes(services=services), ImageWishes())
        progress.settle()
    _follow(acts, progress, services)
    return EXIT_OK


def begin(acts: Operation, progress: Progress, services: Sequence[str]) -> None:
    """Watch in a thread, beside an attached `up`."""

    def ended(error: BaseException | None) -> None:
        if error is not None:
            progress.warn(f"nothing is watched any more: {error}")

    in_thread(lambda: _follow(acts, progress, services), ended)


def _follow(acts: Operation, progress: Progress, services: Sequence[str]) -> None:
    watched = [acts.project.services[name] for name in services if acts.project.services[name].watch]
    if not watched:
        raise SpecError(
            "none of the selected services is configured for watch", hint="see the 'develop' section of compose files"
        )
    with Watcher(watched) as watcher:
        _apply_all(acts, progress, watcher.initial())
        while True:
            _apply_all(acts, progress, watcher.wait())


def _apply_all(acts: Operation, progress: Progress, changes: Sequence[Change]) -> None:
    for each in changes:
        try:
            _apply(acts, progress, each)
        except LabError as error:  # the next change may put it right
            progress.warn(f"service {each.service}: {error}")


def _apply(acts: Operation, progress: Progress, change: Change) -> None:
    action, name = change.rule.action, change.service
    if action == WatchAction.REBUILD:
        acts.have_images((name,), ImageWishes(builds=True))
        acts.converge(Wishes(services=(name,)))
        progress.progress(f"Service {name}", "Rebuilt")
        return
    if action in _SYNCS:
        _sync(acts, change)
        progress.progress(f"Service {name}", f"Synced {len(change.changed) + len(change.gone)} files")
    if action in (WatchAction.RESTART, WatchAction.SYNC_RESTART):
        containers = acts.existing().of(name)
        acts.carry_out(plan_down.stop(acts.project, containers))
        acts.start((name,))
    elif action == WatchAction.SYNC_EXEC:
        _execute(acts, name, Hook(command=change.rule.command))


def _sync(acts: Operation, change: Change) -> None:
    """Bring the files of a change into all containers of the service."""
    with Containers(acts.paths) as containers:
        for each in acts.existing().of(change.service):
            container = containers.get(each.id)
            spec = containers.engine.directory.load_spec(container.id)
            if change.changed:
                inside.extract(container.state, spec, "/", watching.archive(change.rule, change.changed))
    if change.gone:
        gone = tuple(watching.target_of(change.rule, path) for path in change.gone)
        _execute(acts, change.service, Hook(command=("rm", "-rf", *gone), user="0"))


def _execute(acts: Operation, service: str, hook: Hook) -> None:
    with Containers(acts.paths) as containers:
        for each in acts.existing().of(service):
            if each.is_up:
                hooks.run(containers, containers.get(each.id), hook)
