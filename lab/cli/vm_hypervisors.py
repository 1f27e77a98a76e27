"""`lab vm hypervisors`: what libvirt has drivers for, what kind each is, and what this host can do with it."""

from __future__ import annotations

import argparse

from lab.cli import gotemplate, output
from lab.cli.list_flags import FORMAT_HELP
from lab.cli.template_values import Value
from lab.errors import EXIT_OK
from lab.paths import Paths
from lab.vm.hypervisors import HYPERVISORS, verdict

_COLUMNS = ("{{.Name}}", "{{.Type}}", "{{.Here}}", "{{.URI}}", "{{.Verdict}}")
_HEADINGS = {
    "Name": "NAME",
    "Type": "TYPE",
    "Here": "HERE",
    "URI": "URI",
    "Verdict": "WHAT THIS HOST CAN DO",
    "Reason": "WHY THIS TYPE",
}


def add_hypervisors(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `hypervisors`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    parser.add_argument("-q", "--quiet", action="store_true", help="show the names of those that work here only")


def hypervisors(arguments: argparse.Namespace, paths: Paths) -> int:
    """Try each hypervisor, and list them; the reason of each type is in --format json."""
    rows: list[dict[str, Value]] = []
    for each in HYPERVISORS:
        found = verdict(paths, each)
        if found.usable or not arguments.quiet:
            rows.append(
                {
                    "Name": each.name,
                    "Type": str(each.type),
                    "Reason": each.reason,
                    "URI": each.uri,
                    "Here": "yes" if found.usable else "no",
                    "Verdict": found.reason,
                }
            )
    default = "{{.Name}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK
