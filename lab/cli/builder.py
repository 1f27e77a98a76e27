"""`lab builder`: images from Dockerfiles, and what builds keep so that the next ones are fast."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.cli.verb import Verb
from lab.cli.verbs import lazy
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.units import format_decimal_bytes


def _add_prune(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="accepted: all of it is removed anyway")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")


def _prune(arguments: argparse.Namespace, paths: Paths) -> int:
    from lab.container.image.build_cache import BuildCache

    if not arguments.force and not output.confirmed("WARNING! This will remove all build cache."):
        return EXIT_OK
    output.line(f"Total reclaimed space: {format_decimal_bytes(BuildCache(paths.builds).prune(), digits=4)}")
    return EXIT_OK


VERBS: dict[str, Verb] = {
    "build": lazy("lab.cli.build", "build", text="build an image from a Dockerfile", example="sudo lab build -t app ."),
    "prune": Verb(
        help="remove what builds keep: the next ones make every step anew",
        example="sudo lab builder prune -f",
        add_arguments=_add_prune,
        run=_prune,
    ),
}
