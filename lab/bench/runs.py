"""Where runs lie, and which one is meant by an id, a unique prefix, a directory or "latest"."""

from __future__ import annotations

import os

from lab.bench.records import RESULTS
from lab.errors import SpecError

LATEST = "latest"


def run_ids(directory: str) -> tuple[str, ...]:
    """Return the ids of the runs in ``directory``, the one written to last at the end."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return ()
    results = {name: os.path.join(directory, name, RESULTS) for name in names}
    found = [name for name in names if os.path.isfile(results[name])]
    return tuple(sorted(found, key=lambda name: (os.stat(results[name]).st_mtime_ns, name)))


def find_run(directory: str, wanted: str) -> str:
    """Return the directory of the run that ``wanted`` means.

    ``wanted`` is an id in ``directory`` or a prefix that only one of them has, the path of a run's directory or of its
    results file, or "latest".

    Raises:
        SpecError: there is none, or a prefix fits several.
    """
    path = _as_path(wanted)
    if path is not None:
        return path
    ids = run_ids(directory)
    if wanted == LATEST and ids:
        return os.path.join(directory, ids[-1])
    fitting = [name for name in ids if name == wanted] or [name for name in ids if name.startswith(wanted)]
    if len(fitting) == 1:
        return os.path.join(directory, fitting[0])
    if fitting:
        raise SpecError(f"'{wanted}' fits {len(fitting)} runs", hint=f"one of: {', '.join(fitting)}")
    raise SpecError(f"there is no run '{wanted}' in {directory}", hint="see what there is: lab report list")


def _as_path(wanted: str) -> str | None:
    if os.path.isfile(os.path.join(wanted, RESULTS)):
        return os.path.abspath(wanted)
    if os.path.basename(wanted) == RESULTS and os.path.isfile(wanted):
        return os.path.dirname(os.path.abspath(wanted))
    return None
