"""`lab top`: the processes of a container, as the host's ps shows them."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.cli.columns import align
from lab.container import processes
from lab.container.containers import Containers
from lab.errors import EXIT_OK
from lab.paths import Paths

_WIDTH_MIN = 20


def add_top(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `top`."""
    parser.add_argument("container", metavar="CONTAINER", help="name, id, or the beginning of an id")
    parser.add_argument("options", metavar="OPTION", nargs=argparse.REMAINDER, help="of ps (default: -ef)")


def top(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show the processes of a running container, with the pids that they have on the host."""
    with Containers(paths) as containers:
        rows = processes.listed(containers, arguments.container, " ".join(arguments.options))
    output.text(align("".join("\t".join(row) + "\n" for row in rows), width_min=_WIDTH_MIN))
    return EXIT_OK
