"""What the shared spawner does when it has nothing to do but wait: a small program waits in its place.

The process stays the same, and the parent of its containers; only what it executes changes (``slumber.c``), and with it
the memory that it takes: that of an interpreter becomes that of a few pages. What happens next, a request, output, an
end, brings the interpreter back, which goes on as the successor of one that was killed does, by what is on disk.

    run/slumber     a link to the program, made by ``aftermath.py``

This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROGRAM_LINK = "slumber"
_PASSED = "passed:"


def begin(program: str, listener: int, watched: Iterable[int], held: Mapping[str, Iterable[int]], again: str) -> None:
    """Let ``program`` wait until the listener or one of the ``watched`` descriptors can be read.

    ``held`` are other descriptors that stay open, by container; ``again`` is the first argument of who wakes up. It
    returns only if the program cannot be executed, with everything as before.
    """
    interpreter = os.open("/proc/self/exe", os.O_PATH | os.O_CLOEXEC)  # by that path it is still read-only
    groups = {"": tuple(watched), **held}
    told = ";".join(f"{name}={','.join(map(str, numbers))}" for name, numbers in groups.items())
    passed = (interpreter, listener, *(number for numbers in groups.values() for number in numbers))
    waited_for = ",".join(map(str, (listener, *groups[""])))
    own = sys.orig_argv[: sys.orig_argv.index("-c") + 2]
    try:
        for descriptor in passed:
            os.set_inheritable(descriptor, True)
        os.execve(program, (PROGRAM_LINK, str(interpreter), waited_for, *own, again, _PASSED + told), {})
    except OSError:  # no memory or descriptor is left, or nothing may be executed there
        for descriptor in passed:
            os.set_inheritable(descriptor, False)
        os.close(interpreter)


class Woken:
    """What one that has just been woken up finds open."""

    def __init__(self, told: str) -> None:
        """Read what ``begin`` has told."""
        entries = (entry.partition("=") for entry in told.split(";"))
        self._groups = {name: [int(each) for each in numbers.split(",") if each] for name, _, numbers in entries}
        for numbers in self._groups.values():
            for descriptor in numbers:
                os.set_inheritable(descriptor, False)

    def take_held(self, container_id: str) -> list[int] | None:
        """Return what was held for a container, the caller's from here; None for one that was not there, or not now."""
        return self._groups.pop(container_id, None)

    def close(self) -> None:
        """Let the rest go, once what was watched has been opened anew."""
        for numbers in self._groups.values():
            for descriptor in numbers:
                os.close(descriptor)
        self._groups.clear()


def woken() -> Woken | None:
    """Return what is open, if this process has just been woken up."""
    return Woken(sys.argv[-1][len(_PASSED) :]) if sys.argv[-1].startswith(_PASSED) else None


def has_reader(descriptor: int) -> bool:
    """Return whether somebody still has the reading end of a pipe open, given the writing end."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return not poll.poll(0)  # POLLERR comes unasked
