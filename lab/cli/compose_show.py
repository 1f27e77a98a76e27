"""`lab compose ps images top port events`: what a project's containers are and do."""

from __future__ import annotations

import argparse
import sys
import time

from lab.cli import gotemplate, output
from lab.cli.columns import align
from lab.cli.compose_project import add_services, chosen, one, operation, project_of
from lab.cli.container_show import SHORT, command_shown, image_shown
from lab.cli.list_flags import FORMAT_HELP, add_filter, label_of
from lab.cli.template_values import Value, encoded
from lab.compose import naming
from lab.compose.graph import select
from lab.container import event_stream, health, inspection, listing, port_bindings, processes
from lab.container.containers import Container, Containers
from lab.container.event_stream import Event, EventFile
from lab.container.image.filters import parse_filters
from lab.errors import EXIT_OK, LabError
from lab.paths import Paths
from lab.units import format_age_ns, format_decimal_bytes

_STATUSES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")
_PS_COLUMNS = (
    "{{.Name}}", "{{.Image}}", "{{.Command}}", "{{.Service}}", "{{.RunningFor}}", "{{.Status}}", "{{.Ports}}",
)  # fmt: skip
_PS_HEADINGS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Project": "PROJECT",
    "Service": "SERVICE",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "State": "STATE",
    "Status": "STATUS",
    "Health": "HEALTH",
    "ExitCode": "EXIT CODE",
    "Ports": "PORTS",
    "Publishers": "PUBLISHERS",
    "Networks": "NETWORKS",
    "Labels": "LABELS",
}


def add_ps(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ps`."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those that do not run, and those of `run`")
    add("-q", "--quiet", action="store_true", help="show ids only")
    add("--services", dest="only_services", action="store_true", help="show the services' names only")
    add("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add_filter(parser, names="status=STATUS")
    add("--status", choices=_STATUSES, action="append", default=[], help="only those in this state; repeatable")
    add("--orphans", action=argparse.BooleanOptionalAction, default=True, help="also those that the files do not have")
    add("--no-trunc", action="store_true", help="show everything whole")
    add_services(parser)


def ps(arguments: argparse.Namespace, paths: Paths) -> int:
    """List a project's containers."""
    project = project_of(arguments, paths, arguments.services)
    statuses = (*arguments.status, *parse_filters(arguments.filter, ("status",)).get("status", ()))
    acts, _ = operation(arguments, paths, project)
    existing = acts.existing()
    found = [each.id for each in chosen(project, existing, arguments.services, orphans=arguments.orphans)]
    if arguments.all:
        found += [each.id for each in existing.containers if each.is_one_off and _is_meant(arguments, each.service)]
    with Containers(paths) as containers:
        shown = [each for each in map(containers.get, found) if _is_shown(each, arguments, statuses)]
        if arguments.only_services:
            names = dict.fromkeys(inspection.labels(each)[naming.SERVICE] for each in shown)
            output.text("".join(f"{name}\n" for name in names))
            return EXIT_OK
        images = listing.ImagesByName(containers)
        rows = [_row(each, images, whole=arguments.no_trunc) for each in shown]
    default = "{{.ID}}" if arguments.quiet else gotemplate.table(_PS_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _PS_HEADINGS, default=default))
    return EXIT_OK


def _is_meant(arguments: argparse.Namespace, service: str) -> bool:
    return not arguments.services or service in arguments.services


def _is_shown(container: Container, arguments: argparse.Namespace, statuses: tuple[str, ...]) -> bool:
    if statuses:
        return container.status in statuses
    return arguments.all or container.status in ("running", "paused", "restarting")


def _row(container: Container, images: listing.ImagesByName, *, whole: bool) -> dict[str, Value]:
    now_ns, labels, bindings = time.time_ns(), inspection.labels(container), inspection.bindings(container)
    found = inspection.health_status(container) if container.is_running else ""
    return {
        "ID": container.id,
        "Name": container.name,
        "Names": container.name,
        "Image": image_shown(container, images, whole=whole),
        "Command": command_shown(container.record.args, whole=whole),
        "Project": labels.get(naming.PROJECT, ""),
        "Service": labels.get(naming.SERVICE, ""),
        "CreatedAt": inspection.local_time(container.record.created_ns),
        "RunningFor": f"{format_age_ns(now_ns - container.record.created_ns)} ago",
        "State": container.status,
        "Status": inspection.status_text(container, now_ns),
        "Health": "" if found == health.STARTING else found,
        "ExitCode": container.exit_code,
        "Ports": port_bindings.shown(inspection.listening_ports(container), bindings),
        "Publishers": [
            {
                "URL": host.address or port_bindings.ANY,
                "TargetPort": port.number,
                "PublishedPort": host.number,
                "Protocol": port.protocol,
            }
            for port, hosts in bindings.items()
            for host in hosts
        ],
        "Networks": ",".join(inspection.network_names(container)),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": label_of(labels),
    }


_IMAGE_COLUMNS = ("{{.ContainerName}}", "{{.Repository}}", "{{.Tag}}", "{{.ID}}", "{{.Size}}")
_IMAGE_HEADINGS = {
    "ContainerName": "CONTAINER",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "ID": "IMAGE ID",
    "Size": "SIZE",
}


def add_images(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `images`."""
    parser.add_argument("-q", "--quiet", action="store_true", help="show ids only")
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add_services(parser)


def images(arguments: argparse.Namespace, paths: Paths) -> int:
    """List the images that a project's containers were made of."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    rows: list[dict[str, Value]] = []
    with Containers(paths) as containers:
        for each in chosen(project, acts.existing(), arguments.services):
            rows.append(_image_row(containers, containers.get(each.id)))
    if arguments.quiet:
        output.text("".join(f"{name}\n" for name in dict.fromkeys(str(row["ID"]) for row in rows)))
        return EXIT_OK
    output.text(
        gotemplate.render_rows(arguments.format, rows, _IMAGE_HEADINGS, default=gotemplate.table(_IMAGE_COLUMNS))
    )
    return EXIT_OK


def _image_row(containers: Containers, container: Container) -> dict[str, Value]:
    name = container.record.options.image
    repository, _, tag = name.rpartition(":") if ":" in name.rpartition("/")[2] else (name, "", "latest")
    try:
        size = format_decimal_bytes(
            containers.images.content_bytes(containers.images.resolve(container.record.image_id))
        )
    except LabError:  # the image has been removed by force
        size = "N/A"
    return {
        "ContainerName": container.name,
        "Repository": repository,
        "Tag": tag,
        "ID": container.record.image_id.removeprefix("sha256:")[:SHORT],
        "Size": size,
    }


add_top = add_services


def top(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show the processes of a project's containers, with the pids that they have on the host."""
    project = project_of(arguments, paths, arguments.services)
    acts, _ = operation(arguments, paths, project)
    with Containers(paths) as containers:
        for each in chosen(project, acts.existing(), arguments.services):
            if each.status in ("running", "paused"):
                rows = processes.listed(containers, each.id, "")
                output.line(each.name)
                output.line(align("".join("\t".join(row) + "\n" for row in rows)))
    return EXIT_OK


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `port`."""
    add = parser.add_argument
    add("--protocol", choices=("tcp", "udp"), default="tcp", help="of the port (%(default)s)")
    add("--index", metavar="N", type=int, help="of the service's container of this number")
    add("service", metavar="SERVICE", help="whose port it is")
    add("port", metavar="PRIVATE_PORT", help="the port inside")


def port(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show where on the host a port is published."""
    project = project_of(arguments, paths, [arguments.service])
    acts, _ = operation(arguments, paths, project)
    each = one(project, acts.existing(), arguments.service, arguments.index)
    with Containers(paths) as containers:
        bindings = inspection.bindings(containers.get(each.id))
    wanted = port_bindings.ports(f"{arguments.port}/{arguments.protocol}")
    hosts = [host for inner in wanted for host in bindings.get(inner, ())]
    if not hosts:
        raise LabError(f"no port {arguments.port}/{arguments.protocol} for container {each.name}")
    for host in hosts[:1]:
        output.line(f"{host.address or port_bindings.ANY}:{host.number}")
    return EXIT_OK


def add_events(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `events`."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    add_services(parser)


def events(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what happens to a project's containers, as it happens."""
    project = project_of(arguments, paths, arguments.services)
    select(project, arguments.services)
    with EventFile(paths.run, only_new=True) as file:
        for event in file.follow(None):
            attributes = event.attributes
            is_ours = event.kind == "container" and attributes.get(naming.PROJECT) == project.name
            if is_ours and _is_meant(arguments, attributes.get(naming.SERVICE, "")):
                output.line(_event_json(event) if arguments.json else event_stream.shown(event))
                sys.stdout.flush()
    return EXIT_OK


def _event_json(event: Event) -> str:
    shown = {key: value for key, value in event.attributes.items() if not key.startswith("com.docker.compose.")}
    return encoded(
        {
            "time": event_stream.local_instant(event.time_ns),
            "type": event.kind,
            "action": event.action,
            "id": event.actor_id,
            "service": event.attributes.get(naming.SERVICE, ""),
            "attributes": shown,
        }
    )
