"""`lab vm start`, `shutdown`, `destroy`, `rm`, `save`, `restore` and `clone`.

With --connect the same words are meant for the domains of that hypervisor, whoever made them.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from lab.cli import output
from lab.errors import EXIT_OK, SpecError
from lab.machine.machines import Machines
from lab.machine.record import MachineStatus
from lab.paths import Paths

if TYPE_CHECKING:
    from lab.vm.domains import Domains

CONNECT_HELP = "a hypervisor's URI, such as qemu:///system or test:///default: its domains instead of machines"


def add_connect(parser: argparse.ArgumentParser) -> None:
    """Add --connect."""
    parser.add_argument("-c", "--connect", metavar="URI", default="", help=CONNECT_HELP)


@contextmanager
def domains_of(paths: Paths, uri: str) -> Iterator[Domains]:
    """Give the domains of a hypervisor; this loads libvirt.

    Raises:
        UnavailableError: it cannot be reached.
    """
    from lab.vm.domains import open_domains

    with contextlib.closing(open_domains(paths, uri)) as domains:
        yield domains


def _add_machines(parser: argparse.ArgumentParser) -> None:
    add_connect(parser)
    parser.add_argument("machines", metavar="MACHINE", nargs="+", help="name, id, or the beginning of an id")


def add_start(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `start`."""
    parser.add_argument("-a", "--attach", action="store_true", help="stay with it, as `lab vm run` does")
    _add_machines(parser)


def start(arguments: argparse.Namespace, paths: Paths) -> int:
    """Start machines or domains that do not run."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            return output.each(arguments.machines, domains.start)
    machines = Machines(paths)
    if not arguments.attach:
        return output.each(arguments.machines, machines.start)
    if len(arguments.machines) > 1:
        raise SpecError("you cannot start and attach multiple machines at once")
    from lab.cli.vm_run import start_attached

    return start_attached(machines, arguments.machines[0])


def add_shutdown(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `shutdown`."""
    parser.add_argument("-t", "--time", metavar="SECONDS", type=int, default=None, help="until it is powered off (10)")
    _add_machines(parser)


def shutdown(arguments: argparse.Namespace, paths: Paths) -> int:
    """Send SIGTERM to the main commands, power machines off that have not ended in time, and wait for that."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            return output.each(arguments.machines, domains.shutdown)
    machines = Machines(paths)

    def end(reference: str) -> None:
        machine = machines.get(reference)
        if machine.is_running:
            grace_s = machine.record.stop_timeout_s if arguments.time is None else arguments.time
            machines.end(machine, "shutdown", grace_s=grace_s)

    return output.each(arguments.machines, end)


def add_destroy(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `destroy`."""
    _add_machines(parser)


def destroy(arguments: argparse.Namespace, paths: Paths) -> int:
    """Power machines or domains off at once; of a machine that is saved the memory is thrown away."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            return output.each(arguments.machines, domains.destroy)
    machines = Machines(paths)

    def end(reference: str) -> None:
        machine = machines.get(reference)
        if machine.is_running:
            machines.end(machine, "destroy")
        elif machine.state.status is MachineStatus.SAVED:
            machines.forget_memory(machine)

    return output.each(arguments.machines, end)


def add_rm(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `rm`."""
    parser.add_argument("-f", "--force", action="store_true", help="power it off first if it runs")
    _add_machines(parser)


def rm(arguments: argparse.Namespace, paths: Paths) -> int:
    """Remove machines with their disks, or undefine domains."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            return output.each(arguments.machines, lambda name: domains.remove(name, force=arguments.force))
    machines = Machines(paths)
    return output.each(arguments.machines, lambda name: machines.remove(name, force=arguments.force))


def add_save(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `save`."""
    add_connect(parser)
    parser.add_argument("machine", metavar="MACHINE", help="name, id, or the beginning of an id")
    parser.add_argument("file", metavar="FILE", nargs="?", default="", help="with --connect: where the memory goes")


def save(arguments: argparse.Namespace, paths: Paths) -> int:
    """Put a machine's memory on disk, and end it; `restore` has it go on."""
    _require_file(arguments.connect, arguments.file)
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            domains.save(arguments.machine, arguments.file)
    else:
        Machines(paths).save(arguments.machine)
    output.line(arguments.machine)
    return EXIT_OK


def _require_file(uri: str, file: str) -> None:
    if bool(uri) != bool(file):
        message = "a domain's memory needs a FILE" if uri else "a machine keeps its memory itself: no FILE"
        raise SpecError(message, hint="lab vm save --connect URI DOMAIN FILE, or lab vm save MACHINE")


def add_restore(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `restore`."""
    add_connect(parser)
    parser.add_argument("machine", metavar="MACHINE", help="name, id, or the beginning of an id; with --connect a file")


def restore(arguments: argparse.Namespace, paths: Paths) -> int:
    """Have a saved machine go on where it was."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            domains.restore(arguments.machine)
    else:
        Machines(paths).start(arguments.machine, restores=True)
    output.line(arguments.machine)
    return EXIT_OK


def add_clone(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `clone`."""
    parser.add_argument("machine", metavar="MACHINE", help="one that does not run")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="of the new one (default: one is made up)")


def clone(arguments: argparse.Namespace, paths: Paths) -> int:
    """Make a machine with a copy of another one's disk, and print its id; published ports are chosen anew."""
    output.line(Machines(paths).clone(arguments.machine, arguments.name))
    return EXIT_OK
