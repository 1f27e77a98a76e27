"""`lab stats`: what containers use, now and from second to second."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Callable, Iterable, Mapping

from lab.cli import gotemplate, output
from lab.cli.container_show import SHORT
from lab.cli.list_flags import FORMAT_HELP
from lab.cli.template_values import Value
from lab.container import statistics
from lab.container.containers import Container, Containers
from lab.container.statistics import Reading
from lab.errors import EXIT_OK, NoSuchContainer
from lab.paths import Paths
from lab.units import format_binary_bytes, format_decimal_bytes

_INTERVAL_S = 1.0
_CLEAR, _HOME, _CLEAR_LINE, _CLEAR_BELOW = "\033[2J", "\033[H", "\033[K", "\033[J"
_COLUMNS = (
    "{{.ID}}", "{{.Name}}", "{{.CPUPerc}}", "{{.MemUsage}}", "{{.MemPerc}}", "{{.NetIO}}", "{{.BlockIO}}", "{{.PIDs}}",
)  # fmt: skip
_HEADINGS = {
    "BlockIO": "BLOCK I/O",
    "CPUPerc": "CPU %",
    "Container": "CONTAINER",
    "ID": "CONTAINER ID",
    "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT",
    "Name": "NAME",
    "NetIO": "NET I/O",
    "PIDs": "PIDS",
}

Readings = Mapping[str, Reading]


def add_stats(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `stats`."""
    add = parser.add_argument
    add("-a", "--all", action="store_true", help="also containers that do not run")
    add("--format", metavar="FORMAT", default="", help=FORMAT_HELP)
    add("--no-stream", action="store_true", help="show it once")
    add("--no-trunc", action="store_true", help="show whole ids")
    add("containers", metavar="CONTAINER", nargs="*", help="name, id, or the beginning of an id (default: all)")


def stats(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show what containers use, each second anew until interrupted, or once."""
    with Containers(paths) as containers:
        asked = tuple(containers.get(name).id for name in arguments.containers)
        found = _select(containers, arguments, asked)
        before, interval = _read(containers, found), threading.Event()
        is_live = not arguments.no_stream and sys.stdout.isatty()
        output.text(_CLEAR if is_live else "")
        while True:
            interval.wait(_INTERVAL_S)  # the time that is measured
            found = _select(containers, arguments, asked)
            now = _read(containers, found)
            _show(found, before, now, arguments, is_live=is_live)
            if arguments.no_stream or (asked and not found):
                return EXIT_OK
            before = now


def _select(containers: Containers, arguments: argparse.Namespace, asked: tuple[str, ...]) -> list[Container]:
    """Return those that are asked for and still there, else all that run, or all."""
    if not asked:
        return [container for container in containers.all() if arguments.all or container.is_running]
    found = []
    for container_id in asked:
        try:
            found.append(containers.get(container_id))
        except NoSuchContainer:
            continue
    return found


def _read(containers: Containers, found: Iterable[Container]) -> dict[str, Reading]:
    layout = containers.engine.runtime.layout
    running = (container for container in found if container.is_running)
    return {each.id: statistics.read(layout, each.state.cgroup, _network_pid(each)) for each in running}


def _network_pid(container: Container) -> int:
    return 0 if container.record.options.network == "host" else container.state.pid


def _show(
    found: Iterable[Container], before: Readings, now: Readings, arguments: argparse.Namespace, *, is_live: bool
) -> None:
    rows = [_row(container, before, now, whole=arguments.no_trunc) for container in found]
    text = gotemplate.render_rows(arguments.format, rows, _HEADINGS, default=gotemplate.table(_COLUMNS))
    output.text(_HOME + text.replace("\n", f"{_CLEAR_LINE}\n") + _CLEAR_BELOW if is_live else text)
    sys.stdout.flush()


def _row(container: Container, before: Readings, now: Readings, *, whole: bool) -> dict[str, Value]:
    reading = now.get(container.id, Reading())
    ratio = statistics.cpu_ratio(before.get(container.id, reading), reading, statistics.processors())
    container_id = container.id if whole else container.id[:SHORT]
    return {
        "BlockIO": _pair(format_decimal_bytes, reading.read_bytes, reading.written_bytes),
        "CPUPerc": f"{ratio * 100:.2f}%",
        "Container": container_id,
        "ID": container_id,
        "MemPerc": f"{reading.memory_ratio * 100:.2f}%",
        "MemUsage": _pair(format_binary_bytes, reading.memory_bytes, reading.memory_limit_bytes),
        "Name": container.name,
        "NetIO": _pair(format_decimal_bytes, reading.received_bytes, reading.sent_bytes),
        "PIDs": str(reading.tasks),
    }


def _pair(write: Callable[[float], str], first: int, second: int) -> str:
    return f"{write(first)} / {write(second)}"
