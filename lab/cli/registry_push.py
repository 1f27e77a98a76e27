"""`lab push`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from lab.cli import output
from lab.cli.registry_pull import add_insecure, has_tag, insecure_hosts
from lab.errors import EXIT_OK, ImageNotFound, SpecError
from lab.paths import Paths

if TYPE_CHECKING:
    from lab.container.image.reference import Reference
    from lab.container.image.store import ImageStore


def add_push(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``push``."""
    parser.add_argument("name", metavar="NAME[:TAG]", help="what to push, by the name that says where to")
    parser.add_argument("-a", "--all-tags", action="store_true", help="push all tags of the repository")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the image's name only")
    parser.add_argument("--disable-content-trust", action="store_true", help="accepted: content trust is not known")
    add_insecure(parser)


def push(arguments: argparse.Namespace, paths: Paths) -> int:
    """Push an image, or all of a repository."""
    from lab.cli.registry_progress import LayerLines
    from lab.container import event_actors
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore
    from lab.container.registry.push import push as push_image
    from lab.container.registry.session import session

    reference = parse_reference(arguments.name)
    if reference.digest:
        raise SpecError("cannot push a digest reference", hint="give it a name with a tag: lab tag")
    if arguments.all_tags and has_tag(arguments.name):
        raise SpecError("tag can't be used with --all-tags/-a")
    store = ImageStore.open(paths)
    lines = LayerLines(sys.stdout, quiet=arguments.quiet)
    if not (arguments.all_tags or has_tag(arguments.name)):
        lines.told(f"Using default tag: {reference.tag}")
    lines.told(f"The push refers to repository [{reference.registry}/{reference.path}]")
    references = _references(store, reference, all_tags=arguments.all_tags)
    with session(paths, insecure=insecure_hosts(arguments, reference)) as registries:
        for each in references:
            pushed = push_image(registries, store, each, lines)
            labels = pushed.image.config.config.labels
            event_actors.note_image(paths.run, "push", each.familiar, {**labels, "name": each.repository})
            lines.told(f"{each.tag}: digest: {pushed.digest} size: {pushed.size_bytes}")
    if arguments.quiet:
        output.line(str(reference))
    return EXIT_OK


def _references(store: ImageStore, wanted: Reference, *, all_tags: bool) -> tuple[Reference, ...]:
    """Return the names that are to be pushed, in order."""
    names = (name for _, names in store.grouped() for name in names if name.tag and not name.digest)
    found = [
        name
        for name in names
        if name == wanted or (all_tags and (name.registry, name.path) == (wanted.registry, wanted.path))
    ]
    if not found:
        raise ImageNotFound(
            f"An image does not exist locally with the tag: {wanted.repository}",
            hint=f"lab tag IMAGE {wanted.familiar}",
        )
    return tuple(sorted(found, key=lambda name: name.tag))
