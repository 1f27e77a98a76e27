"""`lab top`: the processes of a container, as the host's ps shows them."""

from __future__ import annotations

import argparse
from collections.abc import Collection

from lab.cli import output
from lab.cli.columns import align
from lab.container import events
from lab.container.containers import Containers
from lab.errors import EXIT_OK, ContainerError, StateConflict, UnavailableError
from lab.linux import command, procfs
from lab.paths import Paths

_DEFAULT = ("-ef",)
_WIDTH_MIN = 20
_PID = "PID"


def add_top(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `top`."""
    parser.add_argument("container", metavar="CONTAINER", help="name, id, or the beginning of an id")
    parser.add_argument("options", metavar="OPTION", nargs=argparse.REMAINDER, help="of ps (default: -ef)")


def top(arguments: argparse.Namespace, paths: Paths) -> int:
    """Show the processes of a running container, with the pids that they have on the host."""
    with Containers(paths) as containers:
        container = containers.get(arguments.container)
        if not container.is_running:
            raise StateConflict(f"Container {container.id} is not running", hint=f"lab start {container.name}")
        text = _run_ps(tuple(" ".join(arguments.options).split()) or _DEFAULT)
        pids = containers.engine.runtime.processes(container.state)
        if not pids:  # an ordinary user's has no cgroup
            pids = procfs.pid_namespace_members(container.state.pid)
        rows = select(text, pids)
        events.note(container.state.bundle, "top")
    output.text(align("".join("\t".join(row) + "\n" for row in rows), width_min=_WIDTH_MIN))
    return EXIT_OK


def _run_ps(options: tuple[str, ...]) -> str:
    try:
        done = command.run(("ps", *options))
    except FileNotFoundError:
        raise UnavailableError("there is no ps on this host", hint="apt-get install procps") from None
    if done.exit_code:
        raise ContainerError(f"ps: {done.error_text or f'it ended with {done.exit_code}'}")
    return done.text


def select(text: str, pids: Collection[int]) -> list[list[str]]:
    """Return ps's heading and the lines of processes with these pids, in fields; the last one may have spaces.

    Raises:
        ContainerError: there is no column of pids, or it holds something else.
    """
    heading, *lines = text.splitlines() or [""]
    titles = heading.split()
    if _PID not in titles:
        raise ContainerError("Couldn't find PID field in ps output", hint="lab top CONTAINER -o pid,comm")
    index, wanted = titles.index(_PID), {str(pid) for pid in pids}
    fields = (line.split(None, len(titles) - 1) for line in lines)
    return [titles, *(row for row in fields if len(row) > index and row[index] in wanted)]
