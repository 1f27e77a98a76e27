"""`lab testbed`: a machine with real KVM and cgroup v2 only, emulated, and this working tree in it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from dataclasses import asdict

from lab.cli import output
from lab.cli.arguments import add_format, add_verb
from lab.errors import EXIT_OK, SpecError
from lab.paths import Paths
from lab.testbed.bed import MEMORY_BYTES, VCPUS, Mode, Testbed
from lab.units import format_bytes, format_duration_ns, parse_bytes

EPILOG = """examples:
  sudo lab testbed up                                  make the machine once, resume it afterwards
  sudo lab testbed run -- lab doctor kvm-linux         a command in it, in this working tree
  sudo lab testbed run -e LAB_REQUIRE=vm-kvm -- python -m pytest tests/contract -k vm-kvm
  sudo lab testbed down
  sudo lab testbed up --deterministic                  a machine for each command, which counts instructions

The exit code of `run` is the command's; its standard output and error stay apart."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their flags."""
    parser.epilog = EPILOG
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    up = add_verb(verbs, "up", "make the machine ready", "lab testbed up --cpus 1 --memory 2g")
    up.add_argument("--deterministic", action="store_true", help="count instructions: a new machine for each command")
    up.add_argument("--cpus", metavar="N", type=int, help=f"its processors (default: {VCPUS}; deterministic: 1)")
    up.add_argument("--memory", "-m", metavar="SIZE", help=f"its memory (default: {format_bytes(MEMORY_BYTES)})")
    run_parser = add_verb(verbs, "run", "run a command in the machine", "lab testbed run -- lab doctor kvm-linux")
    run_parser.add_argument("-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="set a variable")
    run_parser.add_argument(
        "command", metavar="COMMAND", nargs=argparse.REMAINDER, help="the program and its arguments"
    )
    down = add_verb(verbs, "down", "end the machine; what it is made of is kept", "lab testbed down")
    down.add_argument("--purge", action="store_true", help="remove what it is made of as well, some 3 GB")
    add_format(add_verb(verbs, "status", "show whether there is a machine", "lab testbed status --format json"))


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Carry the verb out and return the exit code."""
    return _VERBS[arguments.verb](arguments, Testbed(paths, output.note))


def _up(arguments: argparse.Namespace, testbed: Testbed) -> int:
    mode = Mode.DETERMINISTIC if arguments.deterministic else Mode.RUNNING
    try:
        memory_bytes = parse_bytes(arguments.memory) if arguments.memory else MEMORY_BYTES
    except ValueError as error:
        raise SpecError(f"--memory: {error}", hint="--memory 3g") from error
    if arguments.cpus is not None and (arguments.cpus < 1 or (arguments.deterministic and arguments.cpus != 1)):
        raise SpecError(f"--cpus {arguments.cpus}: not so many", hint="--cpus 1")
    testbed.up(mode, vcpus=arguments.cpus or VCPUS, memory_bytes=memory_bytes)
    return EXIT_OK


def _run(arguments: argparse.Namespace, testbed: Testbed) -> int:
    command = tuple(arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command)
    if not command:
        raise SpecError("no command", hint="lab testbed run -- COMMAND")
    exit_code, virtual_ns = testbed.run(
        command,
        _environment(arguments.env),
        stdin=None if sys.stdin.closed or sys.stdin.isatty() else sys.stdin.fileno(),
        out=_writer(sys.stdout.fileno()),
        err=_writer(sys.stderr.fileno()),
    )
    if virtual_ns is not None:
        output.note(f"testbed: {virtual_ns} ns of virtual time ({format_duration_ns(virtual_ns)})")
    return exit_code


def _environment(entries: list[str]) -> dict[str, str]:
    """Return the variables of -e; one without a value is the caller's own, and left out where that is not set."""
    found = {}
    for entry in entries:
        name, separator, value = entry.partition("=")
        if separator or name in os.environ:
            found[name] = value if separator else os.environ[name]
    return found


def _writer(file: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        while data:
            data = data[os.write(file, data) :]

    return write


def _down(arguments: argparse.Namespace, testbed: Testbed) -> int:
    there = testbed.down(purge=arguments.purge)
    output.note("testbed: it is down" if there else "testbed: it was down already")
    return EXIT_OK


def _status(arguments: argparse.Namespace, testbed: Testbed) -> int:
    status = testbed.status()
    if arguments.format == "json":
        output.document(asdict(status))
        return EXIT_OK
    output.line(str(status.mode))
    if status.mode is not Mode.DOWN:
        output.line(f"  processors {status.vcpus}, memory {format_bytes(status.memory_bytes)}")
    if status.pid is not None:
        output.line(f"  QEMU is process {status.pid}; console: {status.console}")
    return EXIT_OK


_VERBS: dict[str, Callable[[argparse.Namespace, Testbed], int]] = {
    "up": _up,
    "run": _run,
    "down": _down,
    "status": _status,
}
