"""What one step needs before it can be looked up in the cache, and how it is made if it is not there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from lab.container.image import build_mounts, build_root
from lab.container.image.build_copy import Manner, writing
from lab.container.image.build_mounts import BindSource, MountPlaces
from lab.container.image.build_run import Command, Commands, Output
from lab.container.image.build_select import Choice, Origin, Source, digest, resolve, select
from lab.container.image.build_sources import Workplace, sources_of
from lab.container.image.build_steps import Action, CopyFiles, Execute, MakeDirectory
from lab.container.storage.walk import walk
from lab.errors import BuildFailed, LabError, disk_hint

_REASON_LENGTH_MAX = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A step that can be made: ``content`` are digests of what it takes from elsewhere.

    ``make`` makes it and returns the directory with what has changed, None if nothing had to.
    """

    content: tuple[str, ...]
    make: Callable[[Output], str | None]


class Origins(Protocol):
    """Finds the files of a stage, an image, or, for "", of the context."""

    def layers(self, name: str) -> Sequence[str]:
        """Return the layers of a stage or image, lowest first."""

    def bind_source(self, name: str, stack: ExitStack) -> BindSource:
        """Return a stage or image as other processes of the host see it, until ``stack`` is closed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """What steps are made with; ``created_s`` is the time that files get which have none."""

    context: Origin
    commands: Commands
    places: MountPlaces
    origins: Origins
    work: str
    created_s: int


@contextmanager
def prepared(action: Action, layers: Sequence[str], tools: Tools) -> Iterator[Prepared]:
    """Give a step on ``layers``, lowest first, ready to be looked up or made until the block ends.

    Raises:
        BuildFailed: something that it takes is not there.
    """
    with ExitStack() as stack:
        match action:
            case MakeDirectory():
                yield Prepared(content=(), make=lambda _: _make_directory(action.path, layers, tools.work))
            case CopyFiles():
                yield _prepare_copy(action, layers, tools, stack)
            case Execute():
                yield _prepare_command(action, layers, tools, stack)


def _make_directory(path: str, layers: Sequence[str], work: str) -> str | None:
    with build_root.mounted(layers, work) as (root, upper):
        if build_root.exists(root, path):
            return None
        with writing(root, Manner()) as tree:
            tree.directory(path)
    return upper


def _prepare_command(action: Execute, layers: Sequence[str], tools: Tools, stack: ExitStack) -> Prepared:
    def origin(name: str) -> BindSource:
        if name:
            return tools.origins.bind_source(name, stack)
        context = tools.context
        return BindSource(
            subject=context.subject,
            find=partial(resolve, context.root),
            key=lambda path: digest(select(context, path or "/", Choice())),
        )

    found = stack.enter_context(build_mounts.placed(action, tools.places, tools.work, origin))
    command = Command(action=action, layers=layers, mounts=tuple(found.mounts), env=tuple(found.env))
    make = partial(tools.commands.run, command, tools.work)
    return Prepared(content=tuple(found.content), make=make)


def _prepare_copy(action: CopyFiles, layers: Sequence[str], tools: Tools, stack: ExitStack) -> Prepared:
    origin = tools.context
    if action.origin:
        taken = tools.origins.layers(action.origin)
        root, _ = stack.enter_context(build_root.mounted(taken, tools.work))
        origin = Origin(root=root, subject=action.origin, keeps_owners=True)
    sources = sources_of(action, origin, Workplace(work=tools.work, created_s=tools.created_s))
    _check(action, sources)
    return Prepared(content=(digest(sources),), make=lambda _: _copy(action, sources, layers, tools.work))


def _check(action: CopyFiles, sources: Sequence[Source]) -> None:
    several = len(sources) > 1 or len(action.sources) + len(action.inline) > 1
    if several and not action.destination.endswith("/"):
        raise BuildFailed(
            "more than one source needs a directory to be copied to", hint=f"end it with a slash: {action.destination}/"
        )


def _copy(action: CopyFiles, sources: Sequence[Source], layers: Sequence[str], work: str) -> str:
    with build_root.mounted(layers, work) as (root, upper):
        owner = build_root.owner_of(root, action.chown) if action.chown else None
        for source in sources:
            manner = Manner(owner=owner or (None if source.keeps_owners else (0, 0)), chmod=action.chmod)
            with writing(root, manner) as tree:
                tree.copy(source, action.destination)
    return upper


def clamp_times(directory: str, latest_s: int) -> None:
    """Set each time below ``directory`` after ``latest_s``, since the epoch, to it, as SOURCE_DATE_EPOCH asks."""
    for found in walk(directory):
        if found.status.st_mtime > latest_s:
            os.utime(found.name, (latest_s, latest_s), dir_fd=found.parent, follow_symlinks=False)


def explain(error: LabError | OSError, text: str) -> BuildFailed:
    """Return what a step's failure means to who wrote the Dockerfile."""
    code = error.exit_code if isinstance(error, BuildFailed) else 1
    hint = error.hint if isinstance(error, LabError) else ""
    if isinstance(error, OSError):
        hint = disk_hint(error.errno)
    reason = str(error)
    if isinstance(error, OSError) and len(reason) > _REASON_LENGTH_MAX:  # the path is of any length
        reason = f"{error.strerror}: {str(error.filename)[:_REASON_LENGTH_MAX]}…"
    return BuildFailed(f"{text}: {reason}", exit_code=code, hint=hint)
