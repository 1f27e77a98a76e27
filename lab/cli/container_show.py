"""`lab ps`: which containers there are."""

from __future__ import annotations

import argparse
import time

from lab.cli import gotemplate, output
from lab.cli.list_flags import FORMAT_HELP, add_filter, label_of
from lab.cli.template_values import Value, formatted
from lab.container import inspection, listing, port_bindings, selection
from lab.container.containers import Container, Containers
from lab.container.image.filters import parse_filters
from lab.container.volumes import points
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.units import format_age_ns, format_decimal_bytes

SHORT = 12
_COMMAND_WIDTH = 20
_MOUNT_WIDTH = 15
_ABOUT_MOUNTS = ("Mounts", "LocalVolumes", "json")
_COLUMNS = (
    "{{.ID}}", "{{.Image}}", "{{.Command}}", "{{.RunningFor}}", "{{.Status}}", "{{.Ports}}", "{{.Names}}",
)  # fmt: skip
_HEADINGS = {
    "ID": "CONTAINER ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Size": "SIZE",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "LocalVolumes": "LOCAL VOLUMES",
    "Networks": "NETWORKS",
}


def add_ps(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `ps`."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those that do not run")
    add_filter(parser, "-f", names=", ".join(selection.LISTED))
    add("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add("-n", "--last", metavar="N", type=int, default=-1, help="the last N that were created, running or not")
    add("-l", "--latest", action="store_true", help="the last one that was created, running or not")
    add("--no-trunc", action="store_true", help="show everything whole")
    add("-q", "--quiet", action="store_true", help="show ids only")
    add("-s", "--size", action="store_true", help="show how much each has written, and how much it holds")


def ps(arguments: argparse.Namespace, paths: Paths) -> int:
    """List containers, the newest first."""
    with Containers(paths) as containers:
        images = listing.ImagesByName(containers)
        filters = parse_filters(arguments.filter, selection.LISTED)
        last = 1 if arguments.latest else arguments.last
        found = listing.find(containers, images, filters, every=arguments.all, last=last)
        rows = [_row(each, containers, images, arguments) for each in found]
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=_default_format(arguments)))
    return EXIT_OK


def _default_format(arguments: argparse.Namespace) -> str:
    if arguments.quiet:
        return "{{.ID}}"
    return gotemplate.table((*_COLUMNS, *("{{.Size}}",) * arguments.size))


def _row(
    container: Container, containers: Containers, images: listing.ImagesByName, arguments: argparse.Namespace
) -> dict[str, Value]:
    now_ns, whole = time.time_ns(), arguments.no_trunc
    shows_mounts = any(word in arguments.format for word in _ABOUT_MOUNTS)  # else its mounts are not read
    mounts = points.read(container.state.bundle) if shows_mounts else ()
    labels = inspection.labels(container)
    names = [mount.name or mount.source for mount in mounts]
    sized = arguments.size or ".Size" in arguments.format
    return {
        "ID": container.id if whole else container.id[:SHORT],
        "Names": container.name,
        "Image": image_shown(container, images, whole=whole),
        "Command": command_shown(container.record.args, whole=whole),
        "CreatedAt": inspection.local_time(container.record.created_ns),
        "RunningFor": f"{format_age_ns(now_ns - container.record.created_ns)} ago",
        "Ports": port_bindings.shown(inspection.listening_ports(container), inspection.bindings(container)),
        "State": container.status,
        "Status": inspection.status_text(container, now_ns),
        "Size": _size(container, containers) if sized else "0B",
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": label_of(labels),
        "Mounts": ",".join(name if whole else ellipsis(name, _MOUNT_WIDTH) for name in names),
        "LocalVolumes": str(sum(bool(mount.name) for mount in mounts)),
        "Networks": ",".join(inspection.network_names(container)),
    }


def ellipsis(text: str, width: int) -> str:
    """Return a text cut to ``width`` characters, the last of which tells that it was."""
    return text if len(text) <= width else f"{text[: width - 1]}…"


def image_shown(container: Container, images: listing.ImagesByName, *, whole: bool) -> str:
    """Return what an image is called: as its user called it, its id if that name has been given to another image."""
    name = images.name_of(container)
    if whole:
        return name
    return name.partition("@")[0] if name != container.record.image_id else name.removeprefix("sha256:")[:SHORT]


def command_shown(args: tuple[str, ...], *, whole: bool) -> str:
    """Return a command as docker's lists quote it: words with spaces in quotes, all of it as Go writes a string."""
    program, *rest = args
    text = " ".join((program, *(f"'{word}'" if " " in word else word for word in rest)))
    return formatted("%q", [text if whole else ellipsis(text, _COMMAND_WIDTH)])


def _size(container: Container, containers: Containers) -> str:
    own, all_bytes = listing.sizes(container, containers)
    virtual = f" (virtual {format_decimal_bytes(all_bytes)})" if all_bytes else ""
    return f"{format_decimal_bytes(own)}{virtual}"
