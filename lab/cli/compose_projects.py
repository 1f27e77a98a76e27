"""`lab compose ls config version`: projects, and files as they are understood."""

from __future__ import annotations

import argparse
from collections import Counter

import lab
from lab.cli import output
from lab.cli.compose_project import project_of, with_files
from lab.cli.list_flags import add_filter
from lab.compose import document, naming
from lab.compose.graph import select
from lab.container.containers import Container, Containers
from lab.container.image.filters import parse_filters
from lab.errors import EXIT_OK
from lab.paths import Paths


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ls`."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those of which nothing runs")
    add("-q", "--quiet", action="store_true", help="show names only")
    add("--format", choices=("table", "json"), default="table", help="how it is shown (%(default)s)")
    add_filter(parser, names="name=NAME")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List the projects of which there are containers."""
    names = parse_filters(arguments.filter, ("name",)).get("name")
    with Containers(paths) as containers:
        projects: dict[str, list[Container]] = {}
        for each in containers.all():
            name = each.record.options.labels.get(naming.PROJECT)
            if name and (names is None or any(wanted in name for wanted in names)):
                projects.setdefault(name, []).append(each)
    rows = [
        {"Name": name, "Status": _status(found), "ConfigFiles": _files(found)}
        for name, found in sorted(projects.items())
        if arguments.all or any(each.is_running for each in found)
    ]
    if arguments.quiet:
        output.text("".join(f"{row['Name']}\n" for row in rows))
    elif arguments.format == "json":
        output.document(rows)
    else:
        table = [{"name": row["Name"], "status": row["Status"], "config_files": row["ConfigFiles"]} for row in rows]
        output.listing(table, columns=("name", "status", "config_files"))
    return EXIT_OK


def _status(containers: list[Container]) -> str:
    counted = Counter(each.status for each in containers)
    return ", ".join(f"{status}({count})" for status, count in sorted(counted.items()))


def _files(containers: list[Container]) -> str:
    return next(filter(None, (each.record.options.labels.get(naming.CONFIG_FILES) for each in containers)), "")


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `config`."""
    add = parser.add_argument
    add("--format", choices=tuple(document.Format), default=document.Format.YAML, help="how it is shown (%(default)s)")
    add("-q", "--quiet", action="store_true", help="only check the files")
    add("-o", "--output", metavar="FILE", default="", help="write to this file (default: standard output)")
    add("--services", dest="what", action="store_const", const="services", help="show the services' names")
    add("--networks", dest="what", action="store_const", const="networks", help="show the networks' names")
    add("--volumes", dest="what", action="store_const", const="volumes", help="show the volumes' names")
    add("--profiles", dest="what", action="store_const", const="profiles", help="show the profiles' names")
    add("--images", dest="what", action="store_const", const="images", help="show the images' names")
    add("--environment", dest="what", action="store_const", const="environment", help="show what is interpolated")
    add("--hash", metavar="SERVICE", default="", help="show what changes with a service; * for all")
    parser.add_argument("services", metavar="SERVICE", nargs="*", help="show these, and what they need (default: all)")


def config(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show the files as they are understood: merged, and with all variables replaced."""
    project = with_files(project_of(arguments, paths, arguments.services))
    lists = {
        "services": lambda: select(project),
        "networks": lambda: tuple(project.networks),
        "volumes": lambda: tuple(project.volumes),
        "profiles": lambda: document.profiles(project),
        "images": lambda: tuple(naming.image_name(project, project.services[name]) for name in select(project)),
        "environment": lambda: tuple(f"{name}={value}" for name, value in sorted(project.environment.items())),
    }
    if arguments.hash:
        wanted = select(project) if arguments.hash == "*" else arguments.hash.split(",")
        names = select(project, tuple(wanted), with_dependencies=False)
        text = "".join(f"{name} {naming.config_hash(project, project.services[name])}\n" for name in names)
    elif arguments.what:
        text = "".join(f"{each}\n" for each in lists[arguments.what]())
    else:
        text = document.text(project, document.Format(arguments.format), arguments.services)
    if arguments.output:
        with open(arguments.output, "w", encoding="utf-8") as file:
            file.write(text)
    elif not arguments.quiet:
        output.text(text)
    return EXIT_OK


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `version`."""
    parser.add_argument("--short", action="store_true", help="the number only")
    parser.add_argument("-f", "--format", choices=("pretty", "json"), default="pretty", help="how it is shown")


def version(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show the version."""
    del paths
    if arguments.short:
        output.line(lab.__version__)
    elif arguments.format == "json":
        output.document({"version": lab.__version__})
    else:
        output.line(f"lab compose version {lab.__version__}")
    return EXIT_OK
