"""`lab vm run` and `exec`: docker's flags -> a machine and its command, or a program in one, and staying with it."""

from __future__ import annotations

import argparse
import contextlib
import os

from lab.cli import output
from lab.cli.flag_values import duration_ns, size
from lab.cli.list_flags import pairs
from lab.cli.run_flags import add_program, environment_lines, volume
from lab.cli.vm_attachment import STDIN, Manner, stay_with, stay_with_program
from lab.container import log_place
from lab.container.detach_keys import DETACH_KEYS
from lab.container.options.run import RunOptions
from lab.errors import EXIT_OK, EXIT_USAGE, LabError, SpecError
from lab.machine import link
from lab.machine.machines import Machines
from lab.machine.plan import plan_vcpus
from lab.machine.record import MachineNetwork, MachineSpec
from lab.paths import Paths
from lab.units import format_bytes

EXIT_START_FAILED = 125
_LEAST_MEMORY_BYTES = 96 << 20
_BOARDS = ("auto", "microvm", "q35", "pc")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run`."""
    add_program(parser)
    parser.add_argument(
        "--add-host", metavar="NAME:ADDRESS", action="append", default=[], help="a line of /etc/hosts; repeatable"
    )
    _add_hardware(parser)
    add = parser.add_argument
    add("-d", "--detach", action="store_true", help="run in the background and print the id")
    add("--rm", action="store_true", help="remove the machine when it has ended")
    add("--name", default="", help="a name for the machine (default: one is made up)")
    add("-l", "--label", metavar="NAME[=VALUE]", action="append", default=[], help="a label; repeatable")
    add("--stop-timeout", metavar="SECONDS", type=int, default=None, help="how long a shutdown waits (default: 10)")
    add("--sig-proxy", action=argparse.BooleanOptionalAction, default=True, help="hand signals to the main command")
    add("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave a terminal (%(default)s)")
    add("image", metavar="IMAGE", help="name, id, or the beginning of an id")
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and its arguments")


def _add_hardware(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-m", "--memory", metavar="BYTES", type=size, default=256 << 20, help="its memory (default: 256m)")
    add("--cpus", metavar="N", type=float, default=None, help="its processors, a whole number (default: 1)")
    add("--accelerator", choices=("tcg", "kvm"), default="", help="what runs its instructions (default: what works)")
    add("--machine", choices=_BOARDS, default="auto", help="its board (default: microvm where it can be had)")
    add("--connect", metavar="URI", default="", help="libvirt's QEMU driver (default: in a process of the machine's)")
    add(
        "--network",
        "--net",
        choices=tuple(map(str, MachineNetwork)),
        default=str(MachineNetwork.USER),
        help="user: through QEMU, to the host's networks; tap: a link to the host; none (default: user)",
    )
    add("-p", "--publish", metavar="[127.0.0.1:][HOST:]GUEST", action="append", default=[], help="a port; repeatable")
    add(
        "-v",
        "--volume",
        metavar="SOURCE:PATH[:ro]",
        action="append",
        default=[],
        help="a directory or volume; repeatable",
    )
    add("--boot-timeout", metavar="DURATION", type=duration_ns, default=120 * 10**9, help="such as 30s (2m)")


def run(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a machine, start it, and stay with it unless it is detached; return its main command's exit code."""
    if arguments.tty and arguments.interactive and not arguments.detach and not os.isatty(STDIN):
        raise SpecError("the input device is not a TTY", hint="leave -t out when standard input is a pipe")
    try:
        return _run(arguments, paths)
    except LabError as error:
        output.error(str(error), hint=error.hint)
        return error.exit_code if error.exit_code > EXIT_USAGE else EXIT_START_FAILED


def _run(arguments: argparse.Namespace, paths: Paths) -> int:
    machines = Machines(paths)
    options = _options(arguments)
    machine_id = machines.create(options, _spec(arguments), name=arguments.name, environ=os.environ)
    machine = machines.get(machine_id)
    try:
        machines.start(machine_id, attaches=not arguments.detach)
    except BaseException:
        if options.removes:
            with contextlib.suppress(LabError):
                machines.remove(machine_id, force=True)
        raise
    if arguments.detach:
        output.line(machine_id)
        return EXIT_OK
    manner = Manner(
        terminal=options.terminal,
        with_input=options.open_stdin,
        keys=arguments.detach_keys,
        forwards=arguments.sig_proxy,
    )
    return stay_with(machines, machine, manner, log_bytes=0)


def _options(arguments: argparse.Namespace) -> RunOptions:
    given = arguments.entrypoint
    return RunOptions(
        image=arguments.image,
        command=tuple(arguments.command),
        entrypoint=None if given is None else (given,) if given else (),
        env=environment_lines(arguments.env_file, arguments.env),
        labels=pairs(arguments.label),
        hostname=arguments.hostname,
        workdir=_absolute(arguments.workdir),
        user=arguments.user,
        groups=tuple(arguments.group_add),
        terminal=arguments.tty,
        open_stdin=arguments.interactive,
        removes=arguments.rm,
        stop_timeout_s=arguments.stop_timeout,
        volumes=tuple(map(volume, arguments.volume)),
        publish=tuple(arguments.publish),
        add_hosts=tuple(arguments.add_host),
        network=arguments.network,
    )


def _spec(arguments: argparse.Namespace) -> MachineSpec:
    if arguments.memory < _LEAST_MEMORY_BYTES:
        raise SpecError(
            f"a guest with {format_bytes(arguments.memory)} of memory does not boot: its kernel alone needs more",
            hint=f"-m {format_bytes(_LEAST_MEMORY_BYTES)} or more",
        )
    return MachineSpec(
        accelerator=arguments.accelerator,
        board=arguments.machine,
        connect=arguments.connect,
        vcpus=plan_vcpus(arguments.cpus),
        memory_bytes=arguments.memory,
        network=MachineNetwork(arguments.network),
        boot_timeout_ns=arguments.boot_timeout,
    )


def _absolute(path: str) -> str:
    if path and not os.path.isabs(path):
        raise SpecError(f"the working directory '{path}' is invalid, it needs to be an absolute path")
    return path


def add_exec(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `exec`."""
    add = parser.add_argument
    add("-i", "--interactive", action="store_true", help="keep standard input open")
    add("-t", "--tty", action="store_true", help="give it a terminal")
    add("-e", "--env", metavar="NAME[=VALUE]", action="append", default=[], help="a variable; repeatable")
    add("--env-file", metavar="FILE", action="append", default=[], help="variables, one a line; repeatable")
    add("-w", "--workdir", metavar="DIR", default="", help="working directory (default: the main command's)")
    add("-u", "--user", metavar="USER[:GROUP]", default="", help="name or number (default: the main command's)")
    add("--detach-keys", metavar="KEYS", default=DETACH_KEYS, help="keys that leave it (%(default)s)")
    add("machine", metavar="MACHINE", help="name, id, or the beginning of an id")
    add("command", metavar="COMMAND", nargs=argparse.REMAINDER, help="program and its arguments")


def exec(arguments: argparse.Namespace, paths: Paths) -> int:  # noqa: A001 - the verb's name
    """Run a program in a running machine, and return its exit code; it ends with this command."""
    if not arguments.command:
        raise SpecError('"lab vm exec" requires at least 2 arguments', hint="lab vm exec --help")
    if arguments.tty and arguments.interactive and not os.isatty(STDIN):
        raise SpecError("the input device is not a TTY", hint="leave -t out when standard input is a pipe")
    machines = Machines(paths)
    manner = Manner(terminal=arguments.tty, with_input=arguments.interactive, keys=arguments.detach_keys)
    with contextlib.closing(machines.connect(machines.get(arguments.machine))) as target:
        link.ask(
            target,
            "exec",
            argv=arguments.command,
            env=environment_lines(arguments.env_file, arguments.env),
            cwd=_absolute(arguments.workdir),
            user=arguments.user,
            terminal=(24, 80) if arguments.tty else None,
            stdin=arguments.interactive,
        )
        return stay_with_program(target, manner)


def start_attached(machines: Machines, reference: str) -> int:
    """Start a machine and stay with it as ``run`` does; return its main command's exit code."""
    machine = machines.get(reference)
    log_bytes = log_place.size_bytes(machine.directory)
    machines.start(machine.id, attaches=True)
    options = machine.record.options
    manner = Manner(terminal=options.terminal, with_input=options.open_stdin, keys=DETACH_KEYS)
    return stay_with(machines, machine, manner, log_bytes=log_bytes)
