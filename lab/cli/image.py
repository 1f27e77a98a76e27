"""`lab image`: make, list, check, export and remove images."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable

from lab.cli import output
from lab.container.image.bootstrap import BaseImage, Bootstrapped, bootstrap
from lab.container.image.store import ImageStore
from lab.container.image.stored import StoredImage
from lab.errors import EXIT_FAILURE, EXIT_OK, SpecError
from lab.paths import Paths
from lab.units import format_bytes

_COLUMNS = ("name", "digest", "image_id", "created", "layers", "size")
_ID_DIGITS = 12

EPILOG = """examples:
  sudo lab image bootstrap all           every base image that the suites need
  lab image ls                           what there is
  lab image verify                       hash every blob anew"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    parser.epilog = EPILOG
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    _add_bootstrap(verbs)
    _add_ls(verbs)
    _add_inspect(verbs)
    _add_rm(verbs)
    _add_verify(verbs)
    _add_export(verbs)


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Carry the verb out and return the exit code."""
    return _VERBS[arguments.verb](arguments, ImageStore.open(paths))


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    return verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to write the result")


def _add_bootstrap(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "bootstrap", "make base images from Debian packages", "sudo lab image bootstrap busybox")
    choices = [*BaseImage, "all"]
    parser.add_argument("base", nargs="?", choices=choices, default="all", metavar="BASE", help=", ".join(choices))
    parser.add_argument("--force", action="store_true", help="make it anew even if it is there")
    _add_format(parser)


def _add_ls(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "ls", "list the images", "lab image ls --format json")
    parser.add_argument("-q", "--quiet", action="store_true", help="manifest digests only")
    _add_format(parser)


def _add_inspect(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "inspect", "show everything about an image as JSON", "lab image inspect debian")
    parser.add_argument("name", metavar="NAME", help="name, manifest digest, or the beginning of one")


def _add_rm(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "rm", "remove images and what no other image needs", "sudo lab image rm busybox")
    parser.add_argument("names", nargs="+", metavar="NAME", help="name, manifest digest, or the beginning of one")


def _add_verify(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "verify", "hash every blob anew and compare", "lab image verify")
    _add_format(parser)


def _add_export(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = _verb(
        verbs,
        "export",
        "write an image for another tool",
        "lab image export busybox busybox.tar && docker load -i busybox.tar",
    )
    parser.add_argument("name", metavar="NAME", help="name, manifest digest, or the beginning of one")
    parser.add_argument("path", metavar="PATH", help="the archive (docker) or directory (oci) to be made")
    parser.add_argument(
        "--format-archive", choices=("docker", "oci"), default="docker", help="docker archive or OCI layout"
    )


def _bootstrap(arguments: argparse.Namespace, store: ImageStore) -> int:
    wanted = tuple(BaseImage) if arguments.base == "all" else (BaseImage(arguments.base),)
    epoch_s = _source_date_epoch()
    progress = output.Progress()
    done = []
    for base in wanted:
        try:
            done.append(bootstrap(store, base, progress=progress.update, force=arguments.force, epoch_s=epoch_s))
        finally:
            progress.done()
        if arguments.format == "table":
            output.line(_told(done[-1]))
    if arguments.format == "json":
        output.document([_summary(each.image) | {"made": each.made} for each in done])
    return EXIT_OK


def _told(done: Bootstrapped) -> str:
    image = done.image
    verb = "made" if done.made else "is there already:"
    return f"{image.name} {verb} {image.manifest_digest} ({format_bytes(image.size_bytes)})"


def _source_date_epoch() -> int | None:
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if text and not text.isdigit():
        raise SpecError(f"SOURCE_DATE_EPOCH is not a number of seconds: {text!r}")
    return int(text) if text else None


def _ls(arguments: argparse.Namespace, store: ImageStore) -> int:
    images = store.images()
    if arguments.quiet:
        for image in images:
            output.line(image.manifest_digest)
        return EXIT_OK
    if arguments.format == "json":
        output.document([_summary(image) for image in images])
    else:
        output.listing([_row(image) for image in images], columns=_COLUMNS)
    return EXIT_OK


def _row(image: StoredImage) -> dict[str, object]:
    return {
        "name": image.name or "<none>",
        "digest": _short(image.manifest_digest),
        "image_id": _short(image.config_digest),
        "created": image.config.created,
        "layers": len(image.layers),
        "size": format_bytes(image.size_bytes),
    }


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:_ID_DIGITS]


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


def _inspect(arguments: argparse.Namespace, store: ImageStore) -> int:
    image = store.resolve(arguments.name)
    unpacked = [os.path.isdir(store.layers.path(source.chain_id)) for source in store.layer_sources(image)]
    output.document(
        _summary(image)
        | {
            "config": json.loads(image.config.to_json()),
            "chain_ids": [source.chain_id for source in store.layer_sources(image)],
            "unpacked": unpacked,
        }
    )
    return EXIT_OK


def _rm(arguments: argparse.Namespace, store: ImageStore) -> int:
    for name in arguments.names:
        gone = store.remove(name).deleted
        output.line(f"{name} removed, with {len(gone)} blobs and unpacked layers that nothing else needs")
    return EXIT_OK


def _verify(arguments: argparse.Namespace, store: ImageStore) -> int:
    found = list(store.verify())
    if arguments.format == "json":
        output.document([{"digest": digest, "error": str(error or "")} for digest, error in found])
    damaged = [error for _, error in found if error is not None]
    for error in damaged:
        output.error(str(error), hint=error.hint)
    if arguments.format == "table":
        output.line(f"{len(found)} blobs verified, {len(damaged)} damaged")
    return EXIT_FAILURE if damaged else EXIT_OK


def _export(arguments: argparse.Namespace, store: ImageStore) -> int:
    image = store.resolve(arguments.name)
    write = store.export_docker_archive if arguments.format_archive == "docker" else store.export_oci_layout
    write(image.manifest_digest, image.name or _short(image.manifest_digest), arguments.path)
    output.line(arguments.path)
    return EXIT_OK


_VERBS: dict[str, Callable[[argparse.Namespace, ImageStore], int]] = {
    "bootstrap": _bootstrap,
    "ls": _ls,
    "inspect": _inspect,
    "rm": _rm,
    "verify": _verify,
    "export": _export,
}
