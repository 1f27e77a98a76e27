"""`lab manifest`: one name for images of several platforms, in docker's words."""

from __future__ import annotations

import argparse
import json

from lab.cli import image_removal, output
from lab.cli.registry_pull import add_insecure, insecure_hosts
from lab.cli.verb import Verb
from lab.cli.verbs import lazy
from lab.errors import EXIT_OK, ImageNotFound
from lab.paths import Paths

_INDENT = 3  # docker's


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("list", metavar="MANIFEST_LIST", help="the name that all get")
    parser.add_argument("manifests", nargs="+", metavar="MANIFEST", help="name or id of an image, or of such a list")
    parser.add_argument("-a", "--amend", action="store_true", help="add to the list that has this name already")


def _create(arguments: argparse.Namespace, paths: Paths) -> int:
    from lab.container.image.combining import combine
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore

    reference = parse_reference(arguments.list)
    combine(ImageStore.open(paths), reference.familiar, arguments.manifests, amend=arguments.amend)
    output.line(f"Created manifest list {reference}")
    return EXIT_OK


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("manifest", metavar="MANIFEST", help="name of an image here, or else at its registry")
    add_insecure(parser)


def _inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    document: object = json.loads(_document(arguments, paths))
    output.line(json.dumps(document, indent=_INDENT, ensure_ascii=False))
    return EXIT_OK


def _document(arguments: argparse.Namespace, paths: Paths) -> bytes:
    """Return what a name stands for in the store, else at its registry."""
    from lab.container.image.reference import parse_reference
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    try:
        return store.blobs.read(store.descriptor(arguments.manifest).digest)
    except ImageNotFound:
        from lab.container.registry.session import session  # what is here asks nobody

        reference = parse_reference(arguments.manifest)
        with session(paths, insecure=insecure_hosts(arguments, reference)) as registries:
            return registries.repository(reference).manifest(reference.digest or reference.tag).data


VERBS: dict[str, Verb] = {
    "create": Verb(
        help="give one name to images of several platforms",
        example="lab manifest create team/app:1 team/app:1-amd64 team/app:1-arm64",
        add_arguments=_add_create,
        run=_create,
    ),
    "inspect": Verb(
        help="show the manifest or the list of manifests behind a name, as it is",
        example="lab manifest inspect nginx",
        add_arguments=_add_inspect,
        run=_inspect,
    ),
    "push": lazy(
        "lab.cli.registry_push",
        "push",
        text="send a list to a registry, with the images that it names",
        example="lab manifest push registry.example:5000/team/app:1",
    ),
    "rm": Verb(
        help="remove lists, and the images that have no other name",
        example="lab manifest rm team/app:1",
        add_arguments=image_removal.add_rm,
        run=image_removal.rm,
    ),
}
