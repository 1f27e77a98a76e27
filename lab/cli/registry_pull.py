"""`lab pull`, and what other verbs do to have an image that may not be there."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, TextIO

from lab.cli import output
from lab.errors import EXIT_OK, ImageNotFound, SpecError
from lab.paths import Paths

if TYPE_CHECKING:
    from lab.container.image.reference import Reference
    from lab.container.image.store import ImageStore
    from lab.container.registry.session import Session

_PLATFORM_HELP = "the image for this platform, such as linux/arm64, of those that the registry has"


def add_pull(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``pull``."""
    parser.add_argument("name", metavar="NAME[:TAG|@DIGEST]", help="what to pull; without a tag, latest")
    parser.add_argument("-a", "--all-tags", action="store_true", help="pull all tags of the repository")
    parser.add_argument("--platform", metavar="PLATFORM", default="", help=_PLATFORM_HELP)
    parser.add_argument("--all-platforms", action="store_true", help="pull the images for all platforms")
    parser.add_argument("-q", "--quiet", action="store_true", help="print the image's name only")
    parser.add_argument("--disable-content-trust", action="store_true", help="accepted: content trust is not known")
    add_insecure(parser)


def add_insecure(parser: argparse.ArgumentParser) -> None:
    """Add the flag that lets the registry of this command be insecure."""
    parser.add_argument(
        "--insecure", action="store_true", help="the registry may have no valid certificate, or speak plain HTTP"
    )


def pull(arguments: argparse.Namespace, paths: Paths) -> int:
    """Pull an image, or all of a repository."""
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore
    from lab.container.registry.pull import all_tags
    from lab.container.registry.session import session

    reference = parse_reference(arguments.name)
    if arguments.all_tags and (reference.digest or has_tag(arguments.name)):
        raise SpecError("tag can't be used with --all-tags/-a")
    if not (arguments.all_tags or arguments.quiet or reference.digest or has_tag(arguments.name)):
        output.line(f"Using default tag: {reference.tag}")
        sys.stdout.flush()
    with session(paths, insecure=insecure_hosts(arguments, reference)) as registries:
        references = all_tags(registries, reference) if arguments.all_tags else iter((reference,))
        for each in references:
            _pull_one(
                paths,
                ImageStore.open(paths),
                registries,
                each,
                arguments.platform,
                sys.stdout,
                quiet=arguments.quiet,
                every=arguments.all_platforms,
            )
            if not arguments.all_tags:
                output.line(str(each))
    if arguments.all_tags:
        output.line(f"{reference.registry}/{reference.path}")
    return EXIT_OK


def insecure_hosts(arguments: argparse.Namespace, reference: Reference) -> tuple[str, ...]:
    """Return the hosts that --insecure speaks of."""
    return (reference.registry,) if arguments.insecure else ()


def has_tag(name: str) -> bool:
    """Return whether a name is given with a tag."""
    return ":" in name.partition("@")[0].rpartition("/")[2]


def fetch(paths: Paths, name: str, *, platform: str, quiet: bool, stream: TextIO | None = None) -> None:
    """Have an image of this name from its registry, telling of it on standard error unless another stream is given.

    Raises:
        RegistryError: the registry has none, or cannot be reached.
        SpecError: ``name`` is no name.
    """
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore
    from lab.container.registry.session import session

    store = ImageStore.open(paths)
    with session(paths) as registries:
        _pull_one(paths, store, registries, parse_reference(name), platform, stream or sys.stderr, quiet=quiet)


def fetch_missing(paths: Paths, name: str, *, platform: str, quiet: bool) -> None:
    """Say that an image is not there, as docker does, and have it from its registry.

    Raises:
        RegistryError: the registry has none, or cannot be reached.
        ImageNotFound: what is asked for is no name, but part of an id.
    """
    from lab.container.image.names import parsed

    reference = parsed(name)
    if reference is None:
        raise ImageNotFound(f"No such image: {name}")
    if not quiet:
        output.note(f"Unable to find image '{reference.familiar}' locally")
    fetch(paths, name, platform=platform, quiet=quiet)


def _pull_one(
    paths: Paths,
    store: ImageStore,
    registries: Session,
    reference: Reference,
    platform: str,
    stream: TextIO,
    *,
    quiet: bool,
    every: bool = False,
) -> None:
    from lab.cli.registry_progress import LayerLines
    from lab.container.registry.transfers import fetch_noted, warn_of_another_platform

    lines = LayerLines(stream, quiet=quiet)
    pulled = fetch_noted(paths, store, registries, reference, platform, lines, every=every)
    if platform and not quiet:
        warn_of_another_platform(pulled, reference, platform, lines)
