"""`lab image ls`, `history` and `inspect`: what images there are, and what they are."""

from __future__ import annotations

import argparse
import datetime
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lab.cli import go_types, gotemplate, output
from lab.cli.list_flags import FORMAT_HELP
from lab.errors import EXIT_FAILURE, EXIT_OK, ContainerError
from lab.paths import Paths
from lab.units import NS_PER_S, format_age_ns, format_decimal_bytes

if TYPE_CHECKING:
    from lab.container.image.description import HistoryEntry
    from lab.container.image.reference import Reference
    from lab.container.image.store import ImageStore
    from lab.container.image.stored import StoredImage
    from lab.container.spec.image import Platform

NONE = "<none>"
SHORT = 12
_COLUMNS = ("{{.Repository}}", "{{.Tag}}", "{{.ID}}", "{{.CreatedSince}}", "{{.Size}}")
_HEADINGS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "VirtualSize": "SIZE",
    "UniqueSize": "UNIQUE SIZE",
    "SharedSize": "SHARED SIZE",
    "Containers": "CONTAINERS",
}
_HISTORY_COLUMNS = ("{{.ID}}", "{{.CreatedSince}}", "{{.CreatedBy}}", "{{.Size}}", "{{.Comment}}")
_HISTORY_HEADINGS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
_CREATED_BY_WIDTH = 45


# -- ls ----------------------------------------------------------------------------------------------------------------


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``ls``."""
    parser.add_argument("reference", nargs="?", metavar="REPOSITORY[:TAG]", help="only these; may be a pattern")
    parser.add_argument("-a", "--all", action="store_true", help="accepted; no image is hidden")
    parser.add_argument("--digests", action="store_true", help="show digests")
    parser.add_argument(
        "-f", "--filter", action="append", default=[], metavar="NAME=VALUE", help="dangling, label, before, since, …"
    )
    parser.add_argument("--format", default="", metavar="FORMAT", help=FORMAT_HELP)
    parser.add_argument("--no-trunc", action="store_true", help="show whole ids")
    parser.add_argument("-q", "--quiet", action="store_true", help="show ids only")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List images."""
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    rows = [row for image, names in _listed(store, arguments) for row in _rows(store, image, names, arguments)]
    output.text(gotemplate.render_rows(_ls_format(arguments), rows, _HEADINGS))
    for called, error in store.damaged():
        output.error(f"image {called} is damaged: {error}", hint=f"lab rmi {called}")
    return EXIT_OK


def _ls_format(arguments: argparse.Namespace) -> str:
    given: str = arguments.format
    if given.strip() in ("", gotemplate.TABLE):
        if arguments.quiet:
            return "{{.ID}}"
        columns = list(_COLUMNS)
        columns[2:2] = ["{{.Digest}}"] * arguments.digests
        return gotemplate.table(columns)
    missing = given.startswith(gotemplate.TABLE) and arguments.digests and "{{.Digest}}" not in given
    return given + "\t{{.Digest}}" * missing


def _listed(store: ImageStore, arguments: argparse.Namespace) -> Iterator[tuple[StoredImage, tuple[Reference, ...]]]:
    from lab.container.image.chosen import listed
    from lab.container.image.filters import LISTED, parse_filters

    filters = parse_filters(arguments.filter, LISTED)
    if arguments.reference:
        filters.setdefault("reference", []).append(arguments.reference)
    return listed(store, filters)


def _rows(
    store: ImageStore, image: StoredImage, names: Iterable[Reference], arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    names = tuple(names)
    common = _common(store, image, no_trunc=arguments.no_trunc)
    tags = [name for name in names if not name.digest]
    digests = {name.repository: name.digest for name in names if name.digest}
    for name in tags:
        digest = digests.get(name.repository, NONE) if arguments.digests else NONE
        yield {**common, "Repository": name.repository, "Tag": name.tag, "Digest": digest}
    for repository in digests.keys() - {name.repository for name in tags}:
        digest = digests[repository] if arguments.digests else NONE
        yield {**common, "Repository": repository, "Tag": NONE, "Digest": digest}
    if not names:
        yield {**common, "Repository": NONE, "Tag": NONE, "Digest": NONE}


def _common(store: ImageStore, image: StoredImage, *, no_trunc: bool) -> dict[str, object]:
    from lab.container.image.filters import instant_ns

    created_ns = instant_ns(image.config.created)
    size_bytes = _size_bytes(store, image)
    return {
        "ID": image.config_digest if no_trunc else short(image.config_digest),
        "CreatedSince": _since(created_ns),
        "CreatedAt": _local(created_ns).strftime("%Y-%m-%d %H:%M:%S %z %Z"),
        "Size": "N/A" if size_bytes is None else format_decimal_bytes(size_bytes),
        "VirtualSize": "N/A" if size_bytes is None else format_decimal_bytes(size_bytes, digits=4),
        "UniqueSize": "N/A",
        "SharedSize": "N/A",
        "Containers": "N/A",
    }


def _size_bytes(store: ImageStore, image: StoredImage) -> int | None:
    """Return the size of an image; None if a layer is damaged, which must not hide the others."""
    try:
        return store.content_bytes(image)
    except ContainerError:
        return None


def short(image_id: str) -> str:
    """Return an id as lists show it."""
    return image_id.removeprefix("sha256:")[:SHORT]


def _since(created_ns: int | None) -> str:
    return "N/A" if created_ns is None else f"{format_age_ns(time.time_ns() - created_ns)} ago"


def _local(instant_ns: int | None) -> datetime.datetime:
    return datetime.datetime.fromtimestamp((instant_ns or 0) // NS_PER_S).astimezone()


# -- history -----------------------------------------------------------------------------------------------------------


def add_history(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``history``."""
    parser.add_argument("image", metavar="IMAGE", help="name or id")
    parser.add_argument("--format", default="", metavar="FORMAT", help=FORMAT_HELP)
    parser.add_argument(
        "-H",
        "--human",
        nargs="?",
        const=True,
        default=True,
        type=_truth,
        metavar="BOOL",
        help="sizes and times for humans (default: true)",
    )
    parser.add_argument("--no-trunc", action="store_true", help="show everything whole")
    parser.add_argument("-q", "--quiet", action="store_true", help="show ids only")
    add_platform(parser)


def add_platform(parser: argparse.ArgumentParser) -> None:
    """Add the flag that says which one of the images for several platforms is meant."""
    parser.add_argument("--platform", metavar="PLATFORM", default="", help="of several, the image for this one")


def platform_of(arguments: argparse.Namespace) -> Platform | None:
    """Return the platform that is asked for, None for none.

    Raises:
        SpecError: it is none.
    """
    if not arguments.platform:
        return None
    from lab.container.image.platforms import host_platform

    return host_platform(arguments.platform)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "1", "false", "0"):
        raise argparse.ArgumentTypeError(f"not true or false: {text!r}")
    return text.lower() in ("true", "1")


def history(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show the steps that made an image."""
    from lab.container.image import description
    from lab.container.image.store import ImageStore

    store = ImageStore.open(paths)
    entries = description.history(store, store.resolve(arguments.image, platform_of(arguments)))
    default = "{{.ID}}" if arguments.quiet else gotemplate.table(_HISTORY_COLUMNS)
    headings = _HISTORY_HEADINGS if arguments.human else {**_HISTORY_HEADINGS, "CreatedSince": "CREATED AT"}
    rows = [_history_row(entry, arguments) for entry in entries]
    output.text(gotemplate.render_rows(arguments.format, rows, headings, default=default))
    return EXIT_OK


def _history_row(entry: HistoryEntry, arguments: argparse.Namespace) -> dict[str, object]:
    from lab.container.image.filters import instant_ns

    created_ns = instant_ns(entry.created)
    at = _local(created_ns).isoformat().replace("+00:00", "Z")
    created_by = " ".join(entry.created_by.split("\t"))
    return {
        "ID": entry.image if arguments.no_trunc else short(entry.image),
        "CreatedSince": _since(created_ns) if arguments.human else at,
        "CreatedAt": at,
        "CreatedBy": created_by if arguments.no_trunc else _ellipsis(created_by, _CREATED_BY_WIDTH),
        "Size": format_decimal_bytes(entry.size_bytes) if arguments.human else str(entry.size_bytes),
        "Comment": entry.comment,
    }


def _ellipsis(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


# -- inspect -----------------------------------------------------------------------------------------------------------


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``inspect``."""
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="name or id")
    parser.add_argument("-f", "--format", default="", metavar="FORMAT", help="'json' or TEMPLATE")
    add_platform(parser)


def inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show everything about images; those that are not there do not keep the others from being shown."""
    from lab.container.image.description import inspect_document
    from lab.container.image.store import ImageStore

    store, platform = ImageStore.open(paths), platform_of(arguments)
    documents, errors = [], []
    for name in arguments.images:
        try:
            image = store.resolve(name, platform)
            documents.append(inspect_document(store, image if platform is None else replace(image, index_digest="")))
        except ContainerError as error:
            errors.append(error)
    output.text(gotemplate.render_documents(arguments.format, documents, as_go=go_types.container_or_image))
    for missing in errors:
        output.error(str(missing), hint=missing.hint)
    return EXIT_FAILURE if errors else EXIT_OK
