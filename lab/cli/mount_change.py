"""`lab mount add rm`: a container gets or loses a mount, at once if it runs, and from its next start on."""

from __future__ import annotations

import argparse

from lab.cli import run_flags
from lab.container import mount_changes
from lab.container.containers import Containers
from lab.errors import EXIT_OK
from lab.paths import Paths


def add_add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``add``."""
    add = parser.add_argument
    add("-v", "--volume", metavar="[SOURCE:]PATH[:ro]", action="append", default=[], help="as of `run`; repeatable")
    add("--mount", metavar="type=TYPE,…", action="append", default=[], help="as of `run`; repeatable")
    add("--tmpfs", metavar="PATH[:OPTIONS]", action="append", default=[], help="as of `run`; repeatable")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def add(arguments: argparse.Namespace, paths: Paths) -> int:
    """Mount more in a container."""
    wishes = mount_changes.Wishes(
        volumes=tuple(map(run_flags.volume, arguments.volume)),
        mounts=tuple(arguments.mount),
        tmpfs=tuple(arguments.tmpfs),
    )
    with Containers(paths) as containers:
        mount_changes.add(containers, arguments.container, wishes)
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rm``."""
    add = parser.add_argument
    add("-f", "--force", action="store_true", help="also what is in use, for who uses it when he is done with it")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")
    add("paths", metavar="PATH", nargs="+", help="where it is mounted in the container")


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Unmount what is mounted at paths of a container."""
    with Containers(paths) as containers:
        mount_changes.remove(containers, arguments.container, arguments.paths, lazily=arguments.force)
    return EXIT_OK
