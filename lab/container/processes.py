"""The processes of a container, as the host's ps shows them."""

from __future__ import annotations

from collections.abc import Collection

from lab.container import events
from lab.container.containers import Containers
from lab.errors import ContainerError, StateConflict, UnavailableError
from lab.linux import command, procfs

_DEFAULT = ("-ef",)
_PID = "PID"


def listed(containers: Containers, reference: str, options: str) -> list[list[str]]:
    """Return ps's heading and a line for each process of a running container; ``options`` of ps, "" for -ef.

    Raises:
        NoSuchContainer: there is none.
        StateConflict: it does not run.
        ContainerError: ps does not take the options, or shows no pids.
        UnavailableError: this host has no ps.
    """
    container = containers.get(reference)
    if not container.is_running:
        raise StateConflict(f"Container {container.id} is not running", hint=f"lab start {container.name}")
    pids = containers.engine.runtime.processes(container.state)
    if not pids:  # an ordinary user's has no cgroup
        pids = procfs.pid_namespace_members(container.state.pid)
    rows = select(_shown(tuple(options.split()), pids), pids)
    events.note(container.state.bundle, "top")
    return rows


def _shown(options: tuple[str, ...], pids: Collection[int]) -> str:
    """Return what ps shows, of these processes alone where the user's options can be asked so: others name none."""
    if not options:
        return _run_ps(_DEFAULT)
    try:
        return _run_ps((*options, "-q", ",".join(map(str, pids))))
    except ContainerError:  # as with "f", which draws a forest of all there are
        return _run_ps(options)


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
