"""`lab volume clone export import`: the content of a volume in another one, as a tar, from a tar."""

from __future__ import annotations

import argparse
import sys

from lab.cli import output
from lab.cli.container_files import target
from lab.cli.list_flags import pairs
from lab.container.volumes import transfer
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths

_STREAM = "-"


def add_clone(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``clone``."""
    parser.add_argument("name", metavar="VOLUME", help="its name")
    parser.add_argument("new_name", metavar="NEW_NAME", help="what no volume is called")


def clone(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a volume with the content of another one, and print its name."""
    output.line(transfer.clone(paths, arguments.name, arguments.new_name).name)
    return EXIT_OK


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``export``."""
    parser.add_argument("-o", "--output", metavar="FILE", default="", help="where to (default: standard output)")
    parser.add_argument("name", metavar="VOLUME", help="its name")


def export(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write a volume's content as a tar."""
    if not arguments.output and sys.stdout.isatty():
        raise SpecError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    with target(arguments.output) as file:
        transfer.export(paths, arguments.name, file)
    return EXIT_OK


def add_import_tar(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``import``."""
    add = parser.add_argument
    add("--label", metavar="KEY[=VALUE]", action="append", default=[], help="a label; repeatable")
    add("--size", metavar="BYTES", default="", help="what it can hold, such as 64m (default: what the disk can)")
    add("name", metavar="VOLUME", help="what it is to be called")
    add("file", metavar="FILE", nargs="?", default=_STREAM, help="a tar, compressed or not (default: standard input)")


def import_tar(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a volume of a tar, and print its name."""
    labels, options = pairs(arguments.label), {"size": arguments.size} if arguments.size else {}
    if arguments.file == _STREAM:
        made = transfer.import_tar(paths, arguments.name, sys.stdin.buffer, labels=labels, options=options)
    else:
        try:
            archive = open(arguments.file, "rb")  # noqa: SIM115  # it is closed below; its error is the user's
        except OSError as error:
            raise SpecError(f"{arguments.file}: {error.strerror}") from None
        with archive:
            made = transfer.import_tar(paths, arguments.name, archive, labels=labels, options=options)
    output.line(made.name)
    return EXIT_OK
