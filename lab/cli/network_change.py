"""`lab network create rm prune connect disconnect`: what happens to networks."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.cli.list_flags import add_filter, pairs
from lab.container import connections, event_actors, pruning
from lab.container.containers import Containers
from lab.container.image.filters import parse_filters
from lab.container.network.description import PRUNED
from lab.container.network.model import Endpoint
from lab.container.network.networks import Networks
from lab.container.network.request import Request
from lab.container.options.endpoints import hardware_address, ip
from lab.errors import EXIT_FAILURE, EXIT_OK, LabError, NoSuchNetwork
from lab.paths import Paths

_WARNING = "WARNING! This will remove all custom networks not used by at least one container."


def add_create(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``create``."""
    add = parser.add_argument
    add("--attachable", action="store_true", help="accepted: any container may be connected")
    add("-d", "--driver", metavar="DRIVER", default="bridge", help="bridge")
    add("--gateway", metavar="ADDRESS", action="append", default=[], help="the host's own address; repeatable")
    add("--internal", action="store_true", help="let nothing leave it")
    add("--ip-range", metavar="CIDR", action="append", default=[], help="where addresses come from; repeatable")
    add("--ipv6", action="store_true", help="give it IPv6 as well")
    add("--label", metavar="KEY[=VALUE]", action="append", default=[], help="a label; repeatable")
    add("-o", "--opt", metavar="KEY=VALUE", action="append", default=[], help="an option of the driver; repeatable")
    add("--subnet", metavar="CIDR", action="append", default=[], help="one for IPv4, one for IPv6")
    add("name", metavar="NETWORK", help="what it is to be called")


def create(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a network and print its id."""
    request = Request(
        name=arguments.name,
        driver=arguments.driver,
        subnets=tuple(arguments.subnet),
        gateways=tuple(arguments.gateway),
        ip_ranges=tuple(arguments.ip_range),
        internal=arguments.internal,
        ipv6=arguments.ipv6,
        attachable=arguments.attachable,
        labels=pairs(arguments.label),
        options=pairs(arguments.opt),
    )
    network = Networks(paths).create(request)
    event_actors.note_network(paths.run, "create", network.id, {"name": network.name, "type": network.driver})
    output.line(network.id)
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rm``."""
    parser.add_argument("-f", "--force", action="store_true", help="one that is not there is no error")
    parser.add_argument("names", metavar="NETWORK", nargs="+", help="name, id, or the beginning of an id")


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove networks and print what was given; those that cannot be removed do not keep the others."""
    networks, code = Networks(paths), EXIT_OK
    for name in arguments.names:
        try:
            pruning.remove_network(paths, networks.find(name))
            output.line(name)
        except NoSuchNetwork as error:
            if not arguments.force:
                output.error(str(error), hint=error.hint)
                code = EXIT_FAILURE
        except LabError as error:
            output.error(str(error), hint=error.hint)
            code = EXIT_FAILURE
    return code


def add_prune(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``prune``."""
    add = parser.add_argument
    add("-f", "--force", action="store_true", help="do not ask")
    add_filter(parser, names="until=TIME, label=KEY[=VALUE], label!=…")


def prune(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove all networks that no container uses."""
    filters = parse_filters(arguments.filter, PRUNED)
    if not arguments.force and not output.confirmed(_WARNING):
        return EXIT_OK
    with Containers(paths) as containers:
        removed = pruning.prune_networks(containers, filters)
    if removed:
        output.text("Deleted Networks:\n" + "".join(f"{name}\n" for name in removed) + "\n")
    return EXIT_OK


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``connect``."""
    add = parser.add_argument
    add("--alias", metavar="NAME", action="append", default=[], help="a further name there; repeatable")
    add("--ip", metavar="ADDRESS", default="", help="its IPv4 address there")
    add("--ip6", metavar="ADDRESS", default="", help="its IPv6 address there")
    add("--mac-address", metavar="ADDRESS", default="", help="its hardware address there")
    add("network", metavar="NETWORK", help="name, id, or the beginning of an id")
    add("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def connect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Connect a container with a network, also one that runs."""
    endpoint = Endpoint(
        network=arguments.network,
        aliases=tuple(arguments.alias),
        address=ip(arguments.ip, 4),
        address6=ip(arguments.ip6, 6),
        mac=hardware_address(arguments.mac_address),
    )
    with Containers(paths) as containers:
        connections.connect(containers, arguments.container, endpoint)
    return EXIT_OK


def add_disconnect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``disconnect``."""
    parser.add_argument("-f", "--force", action="store_true", help="accepted: nothing is in the way")
    parser.add_argument("network", metavar="NETWORK", help="name, id, or the beginning of an id")
    parser.add_argument("container", metavar="CONTAINER", help="name, id, or the beginning of an id")


def disconnect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Take a container off a network, also one that runs."""
    with Containers(paths) as containers:
        connections.disconnect(containers, arguments.container, arguments.network)
    return EXIT_OK
