"""`lab push`."""

from __future__ import annotations

import argparse
import sys

from lab.cli import output
from lab.cli.registry_pull import add_insecure, has_tag, insecure_hosts
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths


def add_push(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``push``."""
    parser.add_argument("name", metavar="NAME[:TAG]", help="what to push, by the name that says where to")
    parser.add_argument("-a", "--all-tags", action="store_true", help="push all tags of the repository")
    parser.add_argument("--platform", metavar="PLATFORM", default="", help="of several, the image for this one only")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the image's name only")
    parser.add_argument("--disable-content-trust", action="store_true", help="accepted: content trust is not known")
    add_insecure(parser)


def push(arguments: argparse.Namespace, paths: Paths) -> int:
    """Push an image, or all of a repository."""
    from lab.cli.registry_progress import LayerLines
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore
    from lab.container.registry.session import session
    from lab.container.registry.transfers import names_to_push, send_noted

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
    references = names_to_push(store, reference, all_tags=arguments.all_tags)
    with session(paths, insecure=insecure_hosts(arguments, reference)) as registries:
        for each in references:
            send_noted(paths, store, registries, each, lines, platform=arguments.platform)
    if arguments.quiet:
        output.line(str(reference))
    return EXIT_OK
