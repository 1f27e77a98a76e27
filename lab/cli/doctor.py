"""`lab doctor`: show what this host can do, each line found by trying, and how to mend what it cannot."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from lab.cli import output
from lab.errors import EXIT_OK, EXIT_UNAVAILABLE
from lab.paths import Paths
from lab.target import doctor
from lab.target.doctor import Finding

EPILOG = """examples:
  lab doctor                     try everything, show it in groups
  lab doctor docker vm-kvm       try two targets; exit code 3 if one of them cannot
  lab doctor --format json       the same for programs

exit codes: 0 all that was named works (without names: all that is essential), 3 something does not"""


_PLAIN_FACTS = ("version", "program", "layout", "emulation")  # understood without their name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the names of checks and the output format."""
    parser.epilog = EPILOG
    parser.add_argument("names", metavar="NAME", nargs="*", help="only these checks (default: all)")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Try the checks, show each finding as it is made, and return 3 if one that matters failed."""
    findings = doctor.examine_all(arguments.names, paths)
    if arguments.format == "json":
        kept = tuple(findings)
        output.document([_as_json(finding) for finding in kept])
    else:
        kept = tuple(_shown(findings))
        _summarise(kept)
    failed = any(_matters(finding, named=bool(arguments.names)) for finding in kept)
    return EXIT_UNAVAILABLE if failed else EXIT_OK


def _matters(finding: Finding, *, named: bool) -> bool:
    return not finding.availability.available and (named or finding.check.essential)


def _shown(findings: Iterable[Finding]) -> Iterable[Finding]:
    group = None
    for finding in findings:
        if finding.check.group != group:
            output.line(f"{chr(10) if group else ''}{finding.check.group.value}")
            group = finding.check.group
        _show(finding)
        yield finding


def _show(finding: Finding) -> None:
    check, availability = finding.check, finding.availability
    facts = ", ".join(_facts(availability.facts))
    if availability.available:
        output.line(f"  ✓ {check.name:<18} {check.title}{f' ({facts})' if facts else ''}")
        return
    output.line(f"  ✗ {check.name:<18} {check.title}{' (essential)' if check.essential else ''}")
    output.line(f"      {availability.reason}")
    if availability.hint:
        output.line(f"      try: {availability.hint}")


def _facts(facts: Iterable[tuple[str, str]]) -> Iterable[str]:
    """Return the facts that a person wants to read; --format json has them all."""
    for key, value in facts:
        if value not in ("", "none") and not key.endswith("digest"):
            yield value if key in _PLAIN_FACTS else f"{key.replace('_', ' ')} {value}"


def _summarise(findings: tuple[Finding, ...]) -> None:
    works = sum(finding.availability.available for finding in findings)
    output.line(f"\n{works} of {len(findings)} work here")


def _as_json(finding: Finding) -> dict[str, object]:
    availability = finding.availability
    return {
        "name": finding.check.name,
        "group": finding.check.group.value,
        "title": finding.check.title,
        "essential": finding.check.essential,
        "available": availability.available,
        "reason": availability.reason,
        "hint": availability.hint,
        "facts": dict(availability.facts),
    }
