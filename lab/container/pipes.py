"""The named pipes of a container that is supervised: its standard streams, in its directory.

The container holds both ends of its outputs, so that it can write whether or not anybody reads just now.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lab.container import supervision
from lab.container.spawner_client import Stdio

STDIN_PIPE = "stdin"


@contextmanager
def opened_pipes(bundle: str, *, open_stdin: bool) -> Iterator[tuple[Stdio, int | None]]:
    """Make a container's named pipes and give what it gets of them, and the other end of its standard input."""
    opened: list[int] = []
    try:
        for name in (*supervision.PIPES, *((STDIN_PIPE,) if open_stdin else ())):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(os.path.join(bundle, name), 0o600)
        stdout, stderr = (_open(opened, os.path.join(bundle, name), os.O_RDWR) for name in supervision.PIPES)
        if not open_stdin:
            yield Stdio(stdin=_open(opened, os.devnull, os.O_RDONLY), stdout=stdout, stderr=stderr), None
            return
        path = os.path.join(bundle, STDIN_PIPE)
        stdin = _open(opened, path, os.O_RDONLY | os.O_NONBLOCK)
        kept = _open(opened, path, os.O_WRONLY)
        os.set_blocking(stdin, True)
        yield Stdio(stdin=stdin, stdout=stdout, stderr=stderr), kept
    finally:
        for descriptor in opened:
            os.close(descriptor)


def open_stdin(bundle: str) -> int:
    """Return a descriptor of a container's standard input, to write to; its closing is the end of that input."""
    path = os.path.join(bundle, STDIN_PIPE)
    with contextlib.suppress(FileExistsError):
        os.mkfifo(path, 0o600)
    return os.open(path, os.O_RDWR | os.O_CLOEXEC)  # for writing alone it would need a reader already


def _open(opened: list[int], path: str, flags: int) -> int:
    opened.append(os.open(path, flags | os.O_CLOEXEC))
    return opened[-1]
