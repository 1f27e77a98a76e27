"""`lab volume create rename rm prune`: what happens to volumes."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.cli.list_flags import add_filter, pairs
from lab.container import pruning
from lab.container.image.filters import parse_filters
from lab.container.volumes import description
from lab.container.volumes.model import DRIVER
from lab.container.volumes.store import VolumeStore
from lab.errors import EXIT_OK, NoSuchVolume, SpecError
from lab.paths import Paths
from lab.units import format_decimal_bytes

_ANONYMOUS_WARNING = "WARNING! This will remove anonymous local volumes not used by at least one container."
_ALL_WARNING = "WARNING! This will remove all local volumes not used by at least one container."
_DIGITS = 4


def add_create(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``create``."""
    add = parser.add_argument
    add("-d", "--driver", metavar="DRIVER", default=DRIVER, help=DRIVER)
    add("--label", metavar="KEY[=VALUE]", action="append", default=[], help="a label; repeatable")
    add("--name", dest="flag_name", metavar="VOLUME", default="", help="what it is to be called, as of old")
    add("-o", "--opt", metavar="KEY=VALUE", action="append", default=[], help="type, o, device, size; repeatable")
    add("--size", metavar="BYTES", default="", help="what it can hold, such as 64m (default: what the disk can)")
    add("name", metavar="VOLUME", nargs="?", default="", help="what it is to be called (default: one is made up)")


def create(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a volume, unless there is one of this name, and print its name."""
    if arguments.name and arguments.flag_name:
        raise SpecError("conflicting options: cannot specify a volume name through both --name and as a positional arg")
    name = arguments.name or arguments.flag_name
    if arguments.driver != DRIVER:
        raise SpecError(
            f'create {name}: error looking up volume plugin {arguments.driver}: plugin "{arguments.driver}" not found'
        )
    try:
        options = {**pairs(arguments.opt), **({"size": arguments.size} if arguments.size else {})}
        volume = VolumeStore(paths).create(name, labels=pairs(arguments.label), options=options)
    except SpecError as error:
        raise SpecError(f"create {name}: {error}", hint=error.hint) from None
    output.line(volume.name)
    return EXIT_OK


def add_rename(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rename``."""
    parser.add_argument("name", metavar="VOLUME", help="its name")
    parser.add_argument("new_name", metavar="NEW_NAME", help="what no volume is called")


def rename(arguments: argparse.Namespace, paths: Paths) -> int:
    """Give a volume another name."""
    VolumeStore(paths).rename(arguments.name, arguments.new_name)
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rm``."""
    parser.add_argument("-f", "--force", action="store_true", help="one that is not there is no error")
    parser.add_argument("names", metavar="VOLUME", nargs="+", help="its name")


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove volumes and print their names; those that cannot be removed do not keep the others."""
    store = VolumeStore(paths)
    return output.each(arguments.names, lambda name: _remove(store, name, force=arguments.force))


def _remove(store: VolumeStore, name: str, *, force: bool) -> None:
    try:
        store.remove(name)
    except NoSuchVolume:
        if not force:
            raise


def add_prune(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prune``."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those with a name")
    add_filter(parser, names="label=KEY[=VALUE], label!=…, all=true")
    add("-f", "--force", action="store_true", help="do not ask")


def prune(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove volumes that no container has."""
    filters = parse_filters(arguments.filter, description.PRUNED)
    if arguments.all and "all" in filters:
        raise SpecError("conflicting options: cannot specify both --all and --filter all=1")
    with_named = description.takes_all(filters, arguments.all)
    if not arguments.force and not output.confirmed(_ALL_WARNING if with_named else _ANONYMOUS_WARNING):
        return EXIT_OK
    removed, freed = pruning.prune_volumes(paths, filters, with_named=with_named)
    if removed:
        output.text("\n".join(("Deleted Volumes:", *removed, "", "")))
    output.line(f"Total reclaimed space: {format_decimal_bytes(freed, digits=_DIGITS)}")
    return EXIT_OK
