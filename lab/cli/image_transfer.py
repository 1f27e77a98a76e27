"""`lab image save`, `load`, `import` and `export`: images in and out of the store."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from lab.cli import output
from lab.cli.image_lists import add_platform, platform_of, short
from lab.errors import EXIT_OK, LabError
from lab.paths import Paths

if TYPE_CHECKING:
    from lab.container.image.archive import Loaded

STDIN = "-"


def add_save(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``save``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="name or id; a name without tag means all its tags")
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="write to FILE instead of standard output")
    add_platform(parser)


def save(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write images to one archive, in docker's form and as an OCI layout at once."""
    from lab.container.image.chosen import exported
    from lab.container.image.export import replacing, write_archive
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    images = exported(store, arguments.images, platform_of(arguments))
    if not arguments.output:
        if sys.stdout.isatty():
            raise LabError("cowardly refusing to save to a terminal", hint="use the -o flag, or redirect")
        with output.results():
            write_archive(store.blobs, images, sys.stdout.buffer)
        return EXIT_OK
    parent = os.path.dirname(os.path.abspath(arguments.output))
    if not os.path.isdir(parent):
        raise LabError(f"failed to save image: invalid output path: stat {parent}: no such file or directory")
    with replacing(arguments.output) as temporary, open(temporary, "wb") as target:
        write_archive(store.blobs, images, target)
    return EXIT_OK


def add_load(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``load``."""
    parser.add_argument("-i", "--input", default="", metavar="FILE", help="read FILE instead of standard input")
    parser.add_argument("-q", "--quiet", action="store_true", help="accepted; there is no other output than the result")


def load(arguments: argparse.Namespace, paths: Paths) -> int:
    """Store the images of an archive."""
    from lab.container import event_actors
    from lab.container.image.archive import load as load_archive
    from lab.container.image.store import ImageStore

    if not arguments.input and sys.stdin.isatty():
        raise LabError("requested load from stdin, but stdin is empty", hint="lab load -i FILE")
    with _opened(arguments.input or STDIN) as source:
        subject = arguments.input or "standard input"
        for loaded in load_archive(ImageStore.open(paths), source, subject, unpack=os.geteuid() == 0):
            image_id = loaded.image.config_digest
            event_actors.note_image(
                paths.run, "load", image_id, {**loaded.image.config.config.labels, "name": image_id}
            )
            _tell_loaded(loaded)
    return EXIT_OK


def _tell_loaded(loaded: Loaded) -> None:
    if loaded.renamed_id:
        output.line(
            f"The image {loaded.name} already exists, renaming the old one with ID {loaded.renamed_id} to empty string"
        )
    output.line(f"Loaded image: {loaded.name}" if loaded.name else f"Loaded image ID: {loaded.image.config_digest}")


def add_import(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``import``."""
    parser.add_argument("source", metavar="FILE|URL|-", help="a tar of files, compressed or not")
    parser.add_argument("name", nargs="?", default="", metavar="REPOSITORY[:TAG]", help="the image's name")
    parser.add_argument(
        "-c",
        "--change",
        action="append",
        default=[],
        metavar="INSTRUCTION",
        help="a Dockerfile instruction: CMD, ENV, …",
    )
    parser.add_argument("-m", "--message", default="", metavar="TEXT", help="the image's comment")


def import_(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make an image of one layer from a tar."""
    from lab.container.image.importing import ImportWishes, import_image
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore

    wishes = ImportWishes(
        name=parse_reference(arguments.name).familiar if arguments.name else "",
        message=arguments.message or f"Imported from {arguments.source}",
        changes=arguments.change,
        created_s=int(time.time()),
    )
    with _opened(arguments.source) as source:
        image = import_image(ImageStore.open(paths), source, arguments.source, wishes)
    output.line(image.config_digest)
    return EXIT_OK


@contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    from lab.container.image.importing import downloading, is_url

    if source == STDIN:
        yield sys.stdin.buffer
        return
    if is_url(source):
        with downloading(source) as answer:
            yield answer
        return
    try:
        file = open(source, "rb")  # noqa: SIM115 - closed by the with block below
    except OSError as error:
        raise LabError(f"open {source}: {(error.strerror or str(error)).lower()}") from error
    with file:
        yield file


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``export``."""
    parser.add_argument("name", metavar="IMAGE", help="name or id")
    parser.add_argument("path", metavar="PATH", help="the archive (docker) or directory (oci) to be made")
    parser.add_argument(
        "--format-archive", choices=("docker", "oci"), default="docker", help="docker archive or OCI layout"
    )


def export(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write one image for another tool."""
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    image = store.resolve(arguments.name)
    write = store.export_docker_archive if arguments.format_archive == "docker" else store.export_oci_layout
    write(image.manifest_digest, image.name or short(image.manifest_digest), arguments.path)
    output.line(arguments.path)
    return EXIT_OK
