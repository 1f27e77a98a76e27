"""`lab cp diff export commit`: a container's files, to and fro."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from lab.cli import output
from lab.container import committing, events, inside
from lab.container.containers import Container, Containers
from lab.container.image.export import replacing
from lab.container.spec.runtime import Spec
from lab.container.state import ContainerState
from lab.container.storage.changes import changes
from lab.container.storage.unpack import UnpackLimits, unpack
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths

_STREAM = "-"


def add_cp(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `cp`."""
    add = parser.add_argument
    add("-a", "--archive", action="store_true", help="keep user and group")
    add("-L", "--follow-link", action="store_true", help="copy what a link at SOURCE leads to")
    add("-q", "--quiet", action="store_true", help="say nothing")
    add("source", metavar="[CONTAINER:]SOURCE", help="path, or - for a tar on standard input")
    add("destination", metavar="[CONTAINER:]DESTINATION", help="path, or - for a tar on standard output")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """One side of a copy: a container's path, or a host's where ``container`` is empty."""

    container: str
    path: str

    @classmethod
    def of(cls, text: str) -> _Place:
        container, colon, path = text.partition(":")
        if not colon or text.startswith((".", "/")):
            return cls(container="", path=text)
        return cls(container=container, path=path if path.startswith("/") else f"/{path}")

    @property
    def is_content(self) -> bool:
        """Whether a directory's content is meant, not the directory itself."""
        return self.path.endswith("/.") or self.path == "."


def cp(arguments: argparse.Namespace, paths: Paths) -> int:
    """Copy files between a container and the host."""
    source, destination = _Place.of(arguments.source), _Place.of(arguments.destination)
    if bool(source.container) == bool(destination.container):
        raise SpecError(
            "copying between containers is not supported"
            if source.container
            else "must specify at least one container source",
            hint="lab cp --help",
        )
    with Containers(paths) as containers:
        if source.container:
            _copy_out(containers.get(source.container), containers, source, destination, arguments)
        else:
            _copy_in(containers.get(destination.container), containers, source, destination, arguments)
    return EXIT_OK


def _copy_out(
    container: Container, containers: Containers, source: _Place, destination: _Place, arguments: argparse.Namespace
) -> None:
    spec = containers.engine.directory.load_spec(container.id)
    found = inside.look(container.state, spec, source.path, follow=arguments.follow_link)
    if found is None:
        raise SpecError(f"Could not find the file {source.path} in container {source.container}")
    if destination.path == _STREAM:
        pack = inside.pack_path(source.path, found.name, follow=arguments.follow_link, keeps_owner=True)
        with inside.reading(container.state, spec, pack) as stream, output.results():
            _copy_stream(stream, sys.stdout.buffer)
        return
    directory, name = _landing(
        destination.path,
        name=found.name,
        is_directory=found.is_directory,
        is_content=source.is_content,
        exists=os.path.exists(destination.path),
        exists_as_directory=os.path.isdir(destination.path),
        parent_exists=os.path.isdir(os.path.dirname(os.path.abspath(destination.path))),
    )
    pack = inside.pack_path(source.path, name, follow=arguments.follow_link, keeps_owner=arguments.archive)
    with inside.reading(container.state, spec, pack) as stream:
        unpack(stream, directory, UnpackLimits(), subject=source.path, whiteouts=False)


def _copy_in(
    container: Container, containers: Containers, source: _Place, destination: _Place, arguments: argparse.Namespace
) -> None:
    spec, state = containers.engine.directory.load_spec(container.id), container.state
    path, there = _destination(state, spec, destination.path)
    if source.path == _STREAM:
        if there is None or not there.is_directory:
            raise SpecError(f'destination "{destination.container}:{destination.path}" must be a directory')
        inside.extract(state, spec, path, sys.stdin.buffer)
        return
    if not os.path.lexists(source.path):
        raise SpecError(f"lstat {os.path.abspath(source.path)}: no such file or directory")
    parent = inside.look(state, spec, os.path.dirname(path.rstrip("/")) or "/", follow=True)
    directory, name = _landing(
        path,
        name=os.path.basename(os.path.abspath(source.path)),
        is_directory=os.path.isdir(source.path) and (arguments.follow_link or not os.path.islink(source.path)),
        is_content=source.is_content,
        exists=there is not None,
        exists_as_directory=there is not None and there.is_directory,
        parent_exists=parent is not None and parent.is_directory,
    )
    # docker lets files keep their owner's numbers, whatever its documentation says of root
    pack = inside.pack_path(source.path, name, follow=arguments.follow_link, keeps_owner=True)
    with inside.packing_here(pack) as stream:
        inside.extract(state, spec, directory, stream)


def _destination(state: ContainerState, spec: Spec, path: str) -> tuple[str, inside.PathStat | None]:
    """Return where a path of a container leads, one link followed as docker does, and what is there."""
    found = inside.look(state, spec, path)
    if found is None or not found.link_target:
        return path, found
    leads_to = os.path.join(os.path.dirname(path.rstrip("/")), found.link_target)
    return leads_to, inside.look(state, spec, leads_to, follow=True)


def _landing(
    path: str,
    *,
    name: str,
    is_directory: bool,
    is_content: bool,
    exists: bool,
    exists_as_directory: bool,
    parent_exists: bool,
) -> tuple[str, str]:
    """Return the directory to unpack in, and what the copy is called there; docker's rules.

    Source: docs.docker.com/reference/cli/docker/container/cp.
    """
    if exists_as_directory:
        return (path, "." if is_content and is_directory else name)
    if exists and is_directory:
        raise SpecError("cannot copy directory")
    if not exists and path.endswith("/") and not is_directory:
        raise SpecError("destination directory does not exist", hint="leave the last / out, or make it first")
    if not parent_exists:
        raise SpecError(f"directory {os.path.dirname(os.path.abspath(path))} does not exist")
    absolute = os.path.abspath(path)
    return os.path.dirname(absolute), os.path.basename(absolute)


def _copy_stream(source: BinaryIO, target: BinaryIO) -> None:
    while data := source.read(1 << 16):
        target.write(data)
    target.flush()


def add_diff(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `diff`."""
    parser.add_argument("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def diff(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what a container has changed in its files."""
    with Containers(paths) as containers:
        state = containers.get(arguments.container).state
        for change in changes(state.upper, state.layers):
            output.line(f"{change.kind} {change.path}")
    return EXIT_OK


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `export`."""
    parser.add_argument("-o", "--output", metavar="FILE", default="", help="where to (default: standard output)")
    parser.add_argument("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def export(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write a container's root file system as a tar."""
    if not arguments.output and sys.stdout.isatty():
        raise SpecError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with Containers(paths) as containers:
        container = containers.get(arguments.container)
        with target(arguments.output) as file:
            inside.export_root(container.state, file)
        events.note(container.state.bundle, "export")
    return EXIT_OK


@contextmanager
def target(path: str) -> Iterator[BinaryIO]:
    """Give a file that is there when it is whole, or standard output for "".

    Raises:
        KernelError: it does not take what is written.
    """
    if path:
        with replacing(path) as temporary, open(temporary, "wb") as file:
            yield file
    else:
        with output.results():
            yield sys.stdout.buffer


def add_commit(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `commit`."""
    add = parser.add_argument
    add("-a", "--author", default="", help="who made it")
    add("-m", "--message", default="", help="what for")
    add(
        "-c",
        "--change",
        metavar="INSTRUCTION",
        action="append",
        default=[],
        help="of a Dockerfile; repeatable",
    )
    add("-p", "--pause", action=argparse.BooleanOptionalAction, default=True, help="freeze the container meanwhile")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")
    add("image", metavar="IMAGE", nargs="?", default="", help="a name for the image")


def commit(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make an image of a container's files, and print its id."""
    wishes = committing.CommitWishes(
        name=arguments.image, author=arguments.author, message=arguments.message, changes=tuple(arguments.change)
    )
    with Containers(paths) as containers:
        container = containers.get(arguments.container)
        output.line(committing.commit_noted(containers, container, wishes, pauses=arguments.pause))
    return EXIT_OK
