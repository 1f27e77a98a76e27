"""`lab network ls` and `inspect`: what networks there are, and who is on them."""

from __future__ import annotations

import argparse

from lab.cli import gotemplate, output
from lab.cli.container_show import SHORT
from lab.cli.list_flags import FORMAT_HELP, add_filter, label_of
from lab.cli.template_values import Value
from lab.container.connected import members
from lab.container.containers import Containers
from lab.container.image.filters import parse_filters
from lab.container.inspection import local_time
from lab.container.network import description
from lab.container.network.model import Network
from lab.container.network.networks import Networks
from lab.errors import EXIT_FAILURE, EXIT_OK, NoSuchNetwork
from lab.paths import Paths

_COLUMNS = ("{{.ID}}", "{{.Name}}", "{{.Driver}}", "{{.Scope}}")
_HEADINGS = {
    "ID": "NETWORK ID",
    "Name": "NAME",
    "Driver": "DRIVER",
    "Scope": "SCOPE",
    "IPv4": "IPV4",
    "IPv6": "IPV6",
    "Internal": "INTERNAL",
    "Labels": "LABELS",
    "CreatedAt": "CREATED AT",
}


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``ls``."""
    add = parser.add_argument
    add_filter(parser, "-f", names=", ".join(description.LISTED))
    add("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add("--no-trunc", action="store_true", help="show whole ids")
    add("-q", "--quiet", action="store_true", help="show ids only")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List networks, by name."""
    filters = parse_filters(arguments.filter, description.LISTED)
    with Containers(paths) as containers:
        used = {network_id for network_id, found in members(containers).items() if found}
        holds = description.conditions(filters, lambda network: network.id in used)
        found = [each for each in Networks(paths).all() if all(condition(each) for condition in holds)]
    rows = [_row(network, whole=arguments.no_trunc) for network in found]
    default = "{{.ID}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK


def _row(network: Network, *, whole: bool) -> dict[str, Value]:
    bridge = network.bridge
    return {
        "ID": network.id if whole else network.id[:SHORT],
        "Name": network.name,
        "Driver": network.driver,
        "Scope": "local",
        "IPv4": str(bridge is not None).lower(),
        "IPv6": str(bridge is not None and bool(bridge.subnet6)).lower(),
        "Internal": str(bridge is not None and bridge.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(network.labels.items())),
        "Label": label_of(network.labels),
        "CreatedAt": local_time(network.created_ns),
    }


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``inspect``."""
    parser.add_argument("-f", "--format", default="", metavar="FORMAT", help="'json' or TEMPLATE")
    parser.add_argument("-v", "--verbose", action="store_true", help="accepted: there is no more to tell")
    parser.add_argument("names", metavar="NETWORK", nargs="+", help="name, id, or the beginning of an id")


def inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show all that is known of networks; names that mean nothing do not keep the others from being shown."""
    documents, errors = [], []
    with Containers(paths) as containers:
        known = members(containers)
        for name in arguments.names:
            try:
                network = Networks(paths).find(name)
                documents.append(description.document(network, known.get(network.id, ())))
            except NoSuchNetwork as error:
                errors.append(error)
    output.text(gotemplate.render_documents(arguments.format, documents))
    for missing in errors:
        output.error(str(missing), hint=missing.hint)
    return EXIT_FAILURE if errors else EXIT_OK
