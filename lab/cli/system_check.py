"""`lab system check`: what killed processes have left, shown and mended."""

from __future__ import annotations

import argparse

from lab.cli import output
from lab.container import checkup
from lab.container.containers import Containers
from lab.errors import EXIT_FAILURE, EXIT_OK, LabError
from lab.paths import Paths


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `system check`."""
    parser.add_argument("-n", "--dry-run", action="store_true", help="only show it")


def check(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what was left and mend it; nothing that lives is touched."""
    code = EXIT_OK
    with Containers(paths) as containers:
        findings = checkup.plan(checkup.look(containers))
        for finding in findings:
            output.line(f"{finding.kind} {finding.subject}: {finding.fault}; {finding.remedy}")
            if arguments.dry_run:
                continue
            try:
                checkup.mend(containers, finding)
            except (LabError, OSError) as error:
                output.error(f"{finding.kind} {finding.subject}: {error}", hint=getattr(error, "hint", ""))
                code = EXIT_FAILURE
    if not findings:
        output.line("nothing was left behind")
    elif arguments.dry_run:
        output.note("nothing was changed: this was a dry run")
    return code
