"""`lab image tag`, `rm` and `prune`: names and images come and go."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from lab.cli import output
from lab.errors import EXIT_FAILURE, EXIT_OK, ImageNotFound, LabError, SpecError
from lab.paths import Paths
from lab.units import format_decimal_bytes

if TYPE_CHECKING:
    from lab.container.image.store import Removed

_DANGLING_WARNING = "WARNING! This will remove all dangling images."
_ALL_WARNING = "WARNING! This will remove all images without at least one container associated to them."
_DEFERRED = "another command uses the store: the content goes when it has ended"


def add_tag(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``tag``."""
    parser.add_argument("source", metavar="SOURCE_IMAGE[:TAG]", help="name or id")
    parser.add_argument("target", metavar="TARGET_IMAGE[:TAG]", help="its further name")


def tag(arguments: argparse.Namespace, paths: Paths) -> int:
    """Give an image another name."""
    from lab.container import event_actors
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore

    try:
        reference = parse_reference(arguments.target)
    except SpecError as error:
        raise LabError(
            f'Error parsing reference: "{arguments.target}" is not a valid repository/tag: {error}'
        ) from error
    if reference.digest:
        raise LabError("refusing to create a tag with a digest reference")
    image = ImageStore.open(paths).tag(arguments.source, reference.familiar)
    attributes = {**image.config.config.labels, "name": reference.familiar}
    event_actors.note_image(paths.run, "tag", image.config_digest, attributes)
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``rm``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="name or id")
    parser.add_argument("-f", "--force", action="store_true", help="also if a stopped container or other names need it")
    parser.add_argument("--no-prune", action="store_true", help="accepted; there are no untagged parents")


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove images; one that cannot be removed does not keep the others from it."""
    from lab.container import event_actors
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    code = EXIT_OK
    for name in arguments.images:
        try:
            removed = store.remove(name, force=arguments.force)
            event_actors.note_removal(
                paths.run, removed.image_id, names=len(removed.untagged), is_deleted=bool(removed.deleted)
            )
            _tell(removed)
        except LabError as error:
            output.error(str(error), hint=error.hint)
            excused = arguments.force and isinstance(error, ImageNotFound)
            code = code if excused else EXIT_FAILURE
    return code


def _tell(removed: Removed) -> None:
    for name in removed.untagged:
        output.line(f"Untagged: {name}")
    for digest in removed.deleted:
        output.line(f"Deleted: {digest}")
    if removed.deferred and removed.deleted:
        output.note(_DEFERRED)


def add_prune(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``prune``."""
    parser.add_argument("-a", "--all", action="store_true", help="also images with a name that no container uses")
    parser.add_argument(
        "--filter", action="append", default=[], metavar="NAME=VALUE", help="until=TIME, label=KEY[=VALUE], label!=…"
    )
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")


def prune(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove what no container uses."""
    from lab.container.image.filters import PRUNED, parse_filters
    from lab.container.image.store import ImageStore
    from lab.container.pruning import prune_images

    filters = parse_filters(arguments.filter, PRUNED)
    with_names = arguments.all or filters.pop("dangling", ["true"])[-1].lower() in ("false", "0")
    if not arguments.force and not output.confirmed(_ALL_WARNING if with_names else _DANGLING_WARNING):
        return EXIT_OK
    store = ImageStore.open(paths)
    _tell_pruned(prune_images(store, filters, with_names=with_names))
    return EXIT_OK


def _tell_pruned(removed: Removed) -> None:
    if removed.untagged or removed.deleted:
        output.line("Deleted Images:")
        for name in removed.untagged:
            output.line(f"untagged: {name}")
        for digest in removed.deleted:
            output.line(f"deleted: {digest}")
        output.line()
    if removed.deferred:
        output.note(_DEFERRED)
    output.line(f"Total reclaimed space: {format_decimal_bytes(removed.freed_bytes, digits=4)}")
