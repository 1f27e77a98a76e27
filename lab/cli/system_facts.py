"""`lab info` and `lab version`: what this installation is and has."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping

from lab.cli import gotemplate, output
from lab.cli.template_values import encoded
from lab.container import information
from lab.container.containers import Containers
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.units import format_binary_bytes

Document = Mapping[str, object]


def add_info(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `info`."""
    parser.add_argument(
        "-f", "--format", metavar="FORMAT", default="", help="'json' or TEMPLATE, in docker's templates"
    )


def info(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what this installation is and has."""
    with Containers(paths) as containers:
        document = information.info_document(containers)
    _show(document, arguments.format, "\n".join(_info_lines(document)))
    return EXIT_OK


add_version = add_info


def version(arguments: argparse.Namespace, _: Paths) -> int:
    """Show which versions these are."""
    document = information.version_document()
    _show(document, arguments.format, "\n".join(_version_lines(document)))
    return EXIT_OK


def _show(document: Document, template: str, text: str) -> None:
    if not template:
        output.line(text)
    elif template == gotemplate.JSON:
        output.line(encoded(document))
    else:
        output.text(gotemplate.render_documents(template, [document]))


def _info_lines(found: Document) -> Iterator[str]:
    yield "Client:"
    yield f" Version:    {found['ServerVersion']}"
    yield " Context:    default"
    yield " Debug Mode: false"
    yield ""
    yield "Server:"
    yield f" Containers: {found['Containers']}"
    for state in ("Running", "Paused", "Stopped"):
        yield f"  {state}: {found[f'Containers{state}']}"
    yield f" Images: {found['Images']}"
    yield f" Server Version: {found['ServerVersion']}"
    yield f" Storage Driver: {found['Driver']}"
    status = found["DriverStatus"]
    assert isinstance(status, list)
    yield from (f"  {name}: {value}" for name, value in status)
    for title, key in _TITLES.items():
        yield f" {title}: {found[key]}"
    memory_bytes = found["MemTotal"]
    assert isinstance(memory_bytes, int)
    yield f" Total Memory: {format_binary_bytes(memory_bytes)}"
    yield f" Name: {found['Name']}"
    yield f" Docker Root Dir: {found['DockerRootDir']}"


_TITLES = {
    "Logging Driver": "LoggingDriver",
    "Cgroup Driver": "CgroupDriver",
    "Cgroup Version": "CgroupVersion",
    "Default Runtime": "DefaultRuntime",
    "Init Binary": "InitBinary",
    "Kernel Version": "KernelVersion",
    "Operating System": "OperatingSystem",
    "OSType": "OSType",
    "Architecture": "Architecture",
    "CPUs": "NCPU",
}


def _version_lines(document: Document) -> Iterator[str]:
    client, server = document["Client"], document["Server"]
    assert isinstance(client, dict)
    assert isinstance(server, dict)
    yield "Client: lab"
    yield from _facts(client, indent=" ")
    yield f" Context:           {client['Context']}"
    yield ""
    yield "Server: lab"
    yield " Engine:"
    yield from _facts(server, indent="  ")


def _facts(found: Document, *, indent: str) -> Iterator[str]:
    width = 20 - len(indent)
    yield f"{indent}{'Version:':<{width}}{found['Version']}"
    yield f"{indent}{'API version:':<{width}}{found['ApiVersion']}"
    yield f"{indent}{'Python version:':<{width}}{found['PythonVersion']}"
    yield f"{indent}{'OS/Arch:':<{width}}{found['Os']}/{found['Arch']}"
