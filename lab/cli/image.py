"""`lab image`: make, list, move and remove images; docker's own verbs are at the top level as well."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from lab.cli import image_lists, image_removal, image_transfer, output
from lab.cli.verb import Verb, add_verbs, chosen
from lab.cli.verbs import lazy
from lab.errors import EXIT_FAILURE, EXIT_OK, SpecError
from lab.paths import Paths
from lab.units import format_bytes

if TYPE_CHECKING:
    from lab.container.image.bootstrap import Bootstrapped
    from lab.container.image.stored import StoredImage

EPILOG = """examples:
  sudo lab image bootstrap all           every base image that the suites need
  sudo lab image bootstrap debian --include nodejs,npm --tag node
  lab image ls                           what there is
  lab image verify                       hash every blob anew"""
_BASES = ("busybox", "debian", "debian-workloads")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    parser.epilog = EPILOG
    add_verbs(parser, VERBS)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Carry the verb out and return the exit code."""
    return chosen(VERBS, arguments.verb).run(arguments, paths)


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to write the result")


def _add_bootstrap(parser: argparse.ArgumentParser) -> None:
    choices = [*_BASES, "all"]
    parser.add_argument("base", nargs="?", choices=choices, default="all", metavar="BASE", help=", ".join(choices))
    parser.add_argument(
        "--include", metavar="PACKAGES", default="", help="more packages for debian, such as nodejs,npm"
    )
    parser.add_argument("-t", "--tag", metavar="NAME", default="", help="name of the image with the packages")
    parser.add_argument("--force", action="store_true", help="make it anew even if it is there")
    _add_format(parser)


def _bootstrap(arguments: argparse.Namespace, paths: Paths) -> int:
    progress = output.Progress()
    done = []
    for make in _wanted(arguments, paths):
        try:
            done.append(make(progress=progress.update, force=arguments.force, epoch_s=_source_date_epoch()))
        finally:
            progress.done()
        if arguments.format == "table":
            output.line(_told(done[-1]))
    if arguments.format == "json":
        output.document([_summary(each.image) | {"made": each.made} for each in done])
    return EXIT_OK


def _wanted(arguments: argparse.Namespace, paths: Paths) -> Iterator[Callable[..., Bootstrapped]]:
    """Give what makes each image that is asked for, once the wishes are known (see ``bootstrap``)."""
    from lab.container.image.bootstrap import BaseImage, bootstrap, bootstrap_with_packages
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    packages = tuple(arguments.include.replace(",", " ").split())
    if packages and (arguments.base != BaseImage.DEBIAN or not arguments.tag):
        hint = f"lab image bootstrap debian --include {','.join(packages)} --tag {arguments.tag or 'NAME'}"
        raise SpecError("--include needs the base debian, and a name for what it makes", hint=hint)
    if arguments.tag and not packages:
        raise SpecError("--tag names an image with --include", hint="lab tag OLD NEW for another name of a base image")
    if packages:
        yield partial(bootstrap_with_packages, store, arguments.tag, packages)
        return
    for base in BaseImage if arguments.base == "all" else (BaseImage(arguments.base),):
        yield partial(bootstrap, store, base)


def _told(done: Bootstrapped) -> str:
    image = done.image
    verb = "made" if done.made else "is there already:"
    return f"{image.name} {verb} {image.manifest_digest} ({format_bytes(image.size_bytes)})"


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdigit():
        raise SpecError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text!r}")
    return int(text) if text else None


def _summary(image: StoredImage) -> dict[str, object]:
    return {
        "name": image.name,
        "digest": image.manifest_digest,
        "image_id": image.config_digest,
        "created": image.config.created,
        "architecture": image.config.architecture,
        "size_bytes": image.size_bytes,
        "layers": [layer.to_document() for layer in image.layers],
        "labels": dict(image.config.config.labels),
    }


def _verify(arguments: argparse.Namespace, paths: Paths) -> int:
    from lab.container.image.store import ImageStore

    found = list(ImageStore.open(paths).verify())
    if arguments.format == "json":
        output.document([{"digest": digest, "error": str(error or "")} for digest, error in found])
    damaged = [error for _, error in found if error is not None]
    for error in damaged:
        output.error(str(error), hint=error.hint)
    if arguments.format == "table":
        output.line(f"{len(found)} blobs verified, {len(damaged)} damaged")
    return EXIT_FAILURE if damaged else EXIT_OK


VERBS: dict[str, Verb] = {
    "bootstrap": Verb(
        help="make base images from Debian packages",
        example="sudo lab image bootstrap busybox",
        add_arguments=_add_bootstrap,
        run=_bootstrap,
    ),
    "build": lazy(
        "lab.cli.build", "build", text="build an image from a Dockerfile", example="sudo lab image build -t app ."
    ),
    "export": Verb(
        help="write one image for another tool",
        example="lab image export busybox busybox.tar && docker load -i busybox.tar",
        add_arguments=image_transfer.add_export,
        run=image_transfer.export,
    ),
    "history": Verb(
        help="show the steps that made an image",
        example="lab history --no-trunc debian",
        add_arguments=image_lists.add_history,
        run=image_lists.history,
    ),
    "import": Verb(
        help="make an image of one layer from a tar of files",
        example="lab import -c 'CMD [\"sh\"]' files.tar mine:latest",
        add_arguments=image_transfer.add_import,
        run=image_transfer.import_,
    ),
    "inspect": Verb(
        help="show everything about images",
        example="lab image inspect --format '{{.Config.Cmd}}' debian",
        add_arguments=image_lists.add_inspect,
        run=image_lists.inspect,
    ),
    "load": Verb(
        help="store the images of an archive that docker, podman, skopeo or the lab saved",
        example="docker save debian | lab load",
        add_arguments=image_transfer.add_load,
        run=image_transfer.load,
    ),
    "ls": Verb(
        help="list images",
        example="lab images --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
        add_arguments=image_lists.add_ls,
        run=image_lists.ls,
        aliases=("list",),
    ),
    "prune": Verb(
        help="remove images that no container uses: those without name, or all",
        example="lab image prune --all --filter until=24h",
        add_arguments=image_removal.add_prune,
        run=image_removal.prune,
    ),
    "pull": lazy("lab.cli.registry_pull", "pull", text="fetch an image from a registry", example="lab pull nginx:1.27"),
    "push": lazy(
        "lab.cli.registry_push",
        "push",
        text="send an image to a registry",
        example="lab push registry.example:5000/app",
    ),
    "rm": Verb(
        help="remove names, and images with their last name",
        example="lab rmi busybox",
        add_arguments=image_removal.add_rm,
        run=image_removal.rm,
        aliases=("remove",),
    ),
    "save": Verb(
        help="write images to one archive, for docker and as an OCI layout at once",
        example="lab save -o both.tar busybox debian",
        add_arguments=image_transfer.add_save,
        run=image_transfer.save,
    ),
    "tag": Verb(
        help="give an image another name",
        example="lab tag debian registry.example:5000/debian:1",
        add_arguments=image_removal.add_tag,
        run=image_removal.tag,
    ),
    "verify": Verb(
        help="hash every blob anew and compare",
        example="lab image verify",
        add_arguments=_add_format,
        run=_verify,
    ),
}
TOP_LEVEL = {
    "history": "history",
    "images": "ls",
    "import": "import",
    "load": "load",
    "pull": "pull",
    "push": "push",
    "rmi": "rm",
    "save": "save",
    "tag": "tag",
}
"""What docker has at the top level as well: the name there, and the verb here."""
