"""`lab volume ls` and `inspect`: what volumes there are."""

from __future__ import annotations

import argparse

from lab.cli import go_types, gotemplate, output
from lab.cli.list_flags import FORMAT_HELP, add_filter, label_of
from lab.cli.template_values import Value
from lab.container.image.filters import parse_filters
from lab.container.volumes import description, points
from lab.container.volumes.model import DRIVER, Volume
from lab.container.volumes.store import VolumeStore
from lab.errors import EXIT_FAILURE, EXIT_OK, NoSuchVolume
from lab.paths import Paths

_COLUMNS = ("{{.Driver}}", "{{.Name}}")
_HEADINGS = {
    "Driver": "DRIVER",
    "Name": "VOLUME NAME",
    "Scope": "SCOPE",
    "Mountpoint": "MOUNTPOINT",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Size": "SIZE",
    "Availability": "AVAILABILITY",
    "Group": "GROUP",
    "Status": "STATUS",
}


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``ls``."""
    add = parser.add_argument
    add_filter(parser, "-f", names=", ".join(description.LISTED))
    add("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add("-q", "--quiet", action="store_true", help="show names only")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List volumes, by name."""
    filters = parse_filters(arguments.filter, description.LISTED)
    store = VolumeStore(paths)
    holds = description.conditions(filters, points.users(paths.containers) if "dangling" in filters else ())
    found = [each for each in store.all() if all(condition(each) for condition in holds)]
    rows = [_row(each, store.data(each.name)) for each in found]
    default = "{{.Name}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK


def _row(volume: Volume, mountpoint: str) -> dict[str, Value]:
    return {
        "Availability": "N/A",
        "Driver": DRIVER,
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Label": label_of(volume.labels),
        "Links": "N/A",
        "Mountpoint": mountpoint,
        "Name": volume.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``inspect``."""
    parser.add_argument("-f", "--format", default="", metavar="FORMAT", help="'json' or TEMPLATE")
    parser.add_argument("names", metavar="VOLUME", nargs="+", help="its name")


def inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show all that is known of volumes; names that mean nothing do not keep the others from being shown."""
    documents, errors = [], []
    store = VolumeStore(paths)
    for name in arguments.names:
        try:
            documents.append(description.document(store.get(name), store.data(name)))
        except NoSuchVolume as error:
            errors.append(error)
    output.text(gotemplate.render_documents(arguments.format, documents, as_go=go_types.volume))
    for missing in errors:
        output.error(str(missing), hint=missing.hint)
    return EXIT_FAILURE if errors else EXIT_OK
