"""`lab vm snapshot`: machines, or domains of a hypervisor, as they were."""

from __future__ import annotations

import argparse

from lab.cli import gotemplate, output
from lab.cli.list_flags import FORMAT_HELP
from lab.cli.template_values import Value
from lab.cli.vm_life import add_connect, domains_of
from lab.container.inspection import local_time
from lab.errors import EXIT_OK
from lab.machine.machines import Machines
from lab.paths import Paths

_COLUMNS = ("{{.Name}}", "{{.CreatedAt}}", "{{.State}}")
_HEADINGS = {"Name": "NAME", "CreatedAt": "CREATED AT", "State": "STATE"}
_NS_PER_S = 10**9


def _add(parser: argparse.ArgumentParser, *, many: bool = False) -> None:
    add_connect(parser)
    parser.add_argument("machine", metavar="MACHINE", help="name, id, or the beginning of an id")
    parser.add_argument("snapshot", metavar="SNAPSHOT", nargs="+" if many else None, help="its name")


def add_create(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `create`."""
    _add(parser)


def create(arguments: argparse.Namespace, paths: Paths) -> int:
    """Keep a machine's disk, and its memory if it runs: it stands still for that, and goes on."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            domains.make_snapshot(arguments.machine, arguments.snapshot)
    else:
        Machines(paths).make_snapshot(arguments.machine, arguments.snapshot)
    output.line(arguments.snapshot)
    return EXIT_OK


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `ls`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    parser.add_argument("-q", "--quiet", action="store_true", help="show names only")
    add_connect(parser)
    parser.add_argument("machine", metavar="MACHINE", help="name, id, or the beginning of an id")


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List a machine's snapshots by age; "running" ones have its memory."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            listed = domains.snapshots(arguments.machine)
        rows = [_row(name, at_s * _NS_PER_S, state) for name, at_s, state in listed]
    else:
        machines = Machines(paths)
        found = machines.snapshots(machines.get(arguments.machine))
        rows = [_row(name, at_ns, "running" if with_memory else "shutoff") for name, with_memory, at_ns in found]
    default = "{{.Name}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK


def _row(name: str, at_ns: int, state: str) -> dict[str, Value]:
    return {"Name": name, "CreatedAt": local_time(at_ns), "State": state}


def add_revert(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `revert`."""
    _add(parser)


def revert(arguments: argparse.Namespace, paths: Paths) -> int:
    """Have a machine be as it was; one whose memory was kept runs from there."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            domains.revert(arguments.machine, arguments.snapshot)
    else:
        Machines(paths).revert(arguments.machine, arguments.snapshot)
    output.line(arguments.snapshot)
    return EXIT_OK


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rm`."""
    _add(parser, many=True)


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove snapshots of a machine."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            return output.each(arguments.snapshot, lambda name: domains.remove_snapshot(arguments.machine, name))
    machines = Machines(paths)
    return output.each(arguments.snapshot, lambda name: machines.remove_snapshot(arguments.machine, name))
