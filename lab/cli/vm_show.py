"""`lab vm ls`, `inspect`, `logs`, `console` and `stats`: what machines there are, and what they do."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lab.cli import gotemplate, output
from lab.cli.container_show import SHORT, command_shown
from lab.cli.container_show_logs import write
from lab.cli.list_flags import FORMAT_HELP, add_filter, label_of
from lab.cli.template_values import Value
from lab.cli.vm_life import add_connect, domains_of
from lab.container import logs as reading
from lab.container.inspection import local_time
from lab.container.spec import codec
from lab.errors import EXIT_FAILURE, EXIT_OK, LabError, NoSuchMachine, SpecError
from lab.linux import inotify
from lab.machine.machines import Machine, Machines
from lab.machine.record import CONSOLE, MachineStatus
from lab.paths import Paths
from lab.units import format_age_ns, format_bytes

if TYPE_CHECKING:
    from lab.vm.domains import DomainView

_STDOUT = 1
_CHUNK_BYTES = 65536
_LOOK_NS = 10**9  # how often it is seen whether a machine that writes nothing still runs
_COLUMNS = ("{{.ID}}", "{{.Image}}", "{{.Command}}", "{{.RunningFor}}", "{{.Status}}", "{{.Ports}}", "{{.Names}}")
_HEADINGS = {
    "ID": "MACHINE ID",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "CreatedAt": "CREATED AT",
    "RunningFor": "CREATED",
    "Ports": "PORTS",
    "State": "STATE",
    "Status": "STATUS",
    "Labels": "LABELS",
    "Memory": "MEMORY",
    "CPUs": "CPUS",
    "Network": "NETWORK",
}
_DOMAIN_COLUMNS = ("{{.ID}}", "{{.Names}}", "{{.State}}", "{{.CPUs}}", "{{.Memory}}", "{{.UUID}}")
_DOMAIN_HEADINGS = {**_HEADINGS, "ID": "ID", "UUID": "UUID", "Persistent": "PERSISTENT"}
_STATS_COLUMNS = ("{{.ID}}", "{{.Name}}", "{{.CPUPerc}}", "{{.MemUsage}}", "{{.VMM}}")
_STATS_HEADINGS = {
    "ID": "MACHINE ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "GUEST MEM / LIMIT",
    "VMM": "VMM",
}
_STATS_INTERVAL_S = 0.5


def add_ls(parser: argparse.ArgumentParser) -> None:
    """Add the flags of `ls`."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also those that do not run")
    add_filter(parser, "-f", names="name, status, label")
    add("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add("--no-trunc", action="store_true", help="show everything whole")
    add("-q", "--quiet", action="store_true", help="show ids only")
    add_connect(parser)


def ls(arguments: argparse.Namespace, paths: Paths) -> int:
    """List machines, the newest first, or a hypervisor's domains, by name."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            rows = [_domain_row(each) for each in domains.all() if arguments.all or each.number]
        default = "{{.Names}}" if arguments.quiet else gotemplate.table(_DOMAIN_COLUMNS)
        output.text(gotemplate.render_rows(arguments.format, rows, _DOMAIN_HEADINGS, default=default))
        return EXIT_OK
    found = [each for each in Machines(paths).all() if arguments.all or each.is_running or arguments.filter]
    rows = [_row(each, whole=arguments.no_trunc) for each in found if _is_wanted(each, arguments.filter)]
    default = "{{.ID}}" if arguments.quiet else gotemplate.table(_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=default))
    return EXIT_OK


def _is_wanted(machine: Machine, filters: list[str]) -> bool:
    for name, _, value in (text.partition("=") for text in filters):
        key, separator, wanted = value.partition("=")
        labels = machine.record.options.labels
        holds = {
            "name": value in machine.name,
            "status": value == machine.state.status,
            "label": key in labels and (not separator or labels[key] == wanted),
        }
        if name not in holds:
            raise SpecError(f"invalid filter '{name}'", hint="one of: name, status, label")
        if not holds[name]:
            return False
    return True


def _row(machine: Machine, *, whole: bool) -> dict[str, Value]:
    record, now_ns = machine.record, time.time_ns()
    labels = record.options.labels
    return {
        "ID": machine.id if whole else machine.id[:SHORT],
        "Names": machine.name,
        "Image": record.options.image,
        "Command": command_shown(record.process.args, whole=whole),
        "CreatedAt": local_time(record.created_ns),
        "RunningFor": f"{format_age_ns(now_ns - record.created_ns)} ago",
        "Ports": ", ".join(f"127.0.0.1:{port.host}->{port.guest}/tcp" for port in record.forwards),
        "State": str(machine.state.status),
        "Status": status_text(machine, now_ns),
        "Labels": ",".join(f"{key}={value}" for key, value in labels.items()),
        "Label": label_of(labels),
        "Memory": format_bytes(record.spec.memory_bytes),
        "CPUs": str(record.spec.vcpus),
        "Network": str(record.spec.network),
    }


def status_text(machine: Machine, now_ns: int) -> str:
    """Return docker's words for how a machine is: "Up 3 minutes", "Exited (0) 2 hours ago"."""
    state = machine.state
    if state.status is MachineStatus.RUNNING:
        return f"Up {format_age_ns(now_ns - state.started_ns)}"
    if state.status is MachineStatus.EXITED:
        why = f": {state.reason}" if state.reason else ""
        return f"Exited ({state.exit_code}) {format_age_ns(now_ns - state.ended_ns)} ago{why}"
    return str(state.status).capitalize()


def _domain_row(view: DomainView) -> dict[str, Value]:
    return {
        "ID": str(view.number) if view.number else "-",
        "Names": view.name,
        "UUID": view.uuid,
        "State": view.state,
        "CPUs": str(view.vcpus),
        "Memory": format_bytes(view.memory_bytes),
        "Persistent": str(view.is_persistent).lower(),
    }


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `inspect`."""
    parser.add_argument("-f", "--format", default="", metavar="FORMAT", help="'json' or TEMPLATE")
    add_connect(parser)
    parser.add_argument("machines", metavar="MACHINE", nargs="+", help="name, id, or the beginning of an id")


def inspect(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show all that is known; names that mean nothing do not keep the others from being shown."""
    documents: list[Value] = []
    errors = []
    with contextlib.ExitStack() as stack:
        domains = stack.enter_context(domains_of(paths, arguments.connect)) if arguments.connect else None
        machines = Machines(paths)
        for name in arguments.machines:
            try:
                if domains is not None:
                    documents.append({**_domain_row(domains.get(name)), "XML": domains.xml(name)})
                else:
                    documents.append(_document(machines, machines.get(name)))
            except NoSuchMachine as error:
                errors.append(error)
    output.text(gotemplate.render_documents(arguments.format, documents))
    for missing in errors:
        output.error(str(missing), hint=missing.hint)
    return EXIT_FAILURE if errors else EXIT_OK


def _document(machines: Machines, machine: Machine) -> dict[str, Value]:
    record, state = machine.record, machine.state
    domain: Mapping[str, object] = {}
    if machine.is_running:
        with contextlib.suppress(LabError):  # it is just ending
            domain = machines.ask(machine, "describe")
    process, spec = record.process, record.spec
    return {
        "Id": machine.id,
        "Name": machine.name,
        "Created": local_time(record.created_ns),
        "Image": record.image_id,
        "Manifest": record.digest,
        "State": {
            "Status": str(state.status),
            "Running": machine.is_running,
            "Pid": state.vmm_pid,
            "ExitCode": state.exit_code,
            "Error": state.reason,
            "StartedAt": local_time(state.started_ns) if state.started_ns else "",
            "FinishedAt": local_time(state.ended_ns) if state.ended_ns else "",
        },
        "Config": {
            "Image": record.options.image,
            "Cmd": list(process.args),
            "Env": list(process.env),
            "WorkingDir": process.cwd,
            "User": f"{process.uid}:{process.gid}",
            "Tty": record.options.terminal,
            "OpenStdin": record.options.open_stdin,
            "Labels": dict(record.options.labels),
        },
        "Hardware": {
            "Accelerator": spec.accelerator or "auto",
            "Machine": spec.board,
            "CPUs": spec.vcpus,
            "Memory": spec.memory_bytes,
            "Network": str(spec.network),
            "Connect": spec.connect,
        },
        "Ports": [{"Host": port.host, "Guest": port.guest} for port in record.forwards],
        "Mounts": [codec.encode(point) for point in record.volumes],
        "Directory": machine.directory,
        "XML": str(domain.get("xml", "")),
        "Argv": json.loads(json.dumps(domain.get("argv", []))),
    }


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `logs`."""
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on with what comes, until the machine ends")
    add("-n", "--tail", metavar="N", default="all", help="only the last N lines (default: all)")
    add("-t", "--timestamps", action="store_true", help="say when each line was written")
    add("machine", metavar="MACHINE", help="name, id, or the beginning of an id")


def logs(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write what the main command has written, each stream to our own of its kind."""
    machines = Machines(paths)
    machine = machines.get(arguments.machine)
    tail = int(arguments.tail) if arguments.tail.isdigit() else None
    wanted = reading.Wanted(tail=tail, timestamps=arguments.timestamps)
    with reading.Reader(machine.directory, wanted) as reader:
        write(reader.pieces())
        while arguments.follow and _await_change(machines, machine):
            write(reader.pieces())
        write(reader.pieces())
    return EXIT_OK


def add_console(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `console`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes, until the machine ends")
    parser.add_argument("machine", metavar="MACHINE", help="name, id, or the beginning of an id")


def console(arguments: argparse.Namespace, paths: Paths) -> int:
    """Write what the guest's kernel has written to its serial port: nothing, unless something is wrong."""
    machines = Machines(paths)
    machine = machines.get(arguments.machine)
    path = os.path.join(machine.directory, CONSOLE)
    offset = 0
    goes_on = True
    while goes_on:
        goes_on = arguments.follow and _await_change(machines, machine)
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            file.seek(offset)
            while data := file.read(_CHUNK_BYTES):
                write([(False, data)])
                offset += len(data)
    return EXIT_OK


def _await_change(machines: Machines, machine: Machine) -> bool:
    """Wait until something in a machine's directory changes, and return whether it still runs."""
    try:
        if not machines.get(machine.id).is_running:
            return False
        with inotify.Watch() as watch:
            watch.add(machine.directory, inotify.IN_MODIFY | inotify.IN_MOVED_TO | inotify.IN_DELETE_SELF)
            watch.wait(_LOOK_NS)
        return machines.get(machine.id).is_running
    except (NoSuchMachine, FileNotFoundError):
        return False


def add_stats(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stats`."""
    parser.add_argument("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add_connect(parser)
    parser.add_argument("machines", metavar="MACHINE", nargs="*", help="name, id, … (default: all that run)")


def stats(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show once what machines use: of a processor, of their memory as the guest sees it, and the VMM's on the host."""
    if arguments.connect:
        with domains_of(paths, arguments.connect) as domains:
            names = arguments.machines or [each.name for each in domains.all() if each.number]
            output.document({name: dict(domains.stats(name)) for name in names})
        return EXIT_OK
    machines = Machines(paths)
    names = arguments.machines
    found = [machines.get(name) for name in names] if names else [each for each in machines.all() if each.is_running]
    before = [(machine, machines.ask(machine, "stats")) for machine in found]
    if before:
        time.sleep(_STATS_INTERVAL_S)  # usage is a difference, and this is its interval
    rows = [_stats_row(machine, first, machines.ask(machine, "stats")) for machine, first in before]
    default = gotemplate.table(_STATS_COLUMNS)
    output.text(gotemplate.render_rows(arguments.format, rows, _STATS_HEADINGS, default=default))
    return EXIT_OK


def _stats_row(machine: Machine, first: Mapping[str, object], last: Mapping[str, object]) -> dict[str, Value]:
    def number(of: Mapping[str, object], name: str) -> int:
        return int(str(of[name]))

    busy_ns = number(last, "cpu_ns") - number(first, "cpu_ns")
    used_bytes = number(last, "memory_bytes") - number(last, "available_bytes")
    return {
        "ID": machine.id[:SHORT],
        "Name": machine.name,
        "CPUPerc": f"{100 * busy_ns / max(1, number(last, 'at_ns') - number(first, 'at_ns')):.2f}%",
        "MemUsage": f"{format_bytes(used_bytes)} / {format_bytes(number(last, 'memory_bytes'))}",
        "VMM": format_bytes(number(last, "vmm_bytes")),
    }
