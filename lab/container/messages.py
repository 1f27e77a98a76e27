"""What an engine asks its spawner for, and what it is answered: tuples, whose first element is one of these words.

How they travel is ``wire.py``. This file is imported by the spawner: nothing heavy here.
"""

SPAWN = "spawn"
"""A request: (SPAWN, flags, marshalled plan, detached, fields of its attachments, supervision or None, identity of a
process whose pid namespace is to be the child's or None, the set-up of its own users or None, file that lists what is
to die with it or "", an execution or None); with reply pipe, stdin, stdout, stderr, the v2 cgroup to be born in if
flags have CLONE_INTO_CGROUP, the pipe of ``LIMITS_NUMBER`` if the plan has one, and one descriptor for each letter of
the supervision's streams.

A supervision is (bundle, has a terminal, streams, policy as in ``supervision``, program that keeps the terminal or
""). The letters are "o" and "e" for pipes that get the output, "i" for one to be typed on the terminal, "k" for what is
only kept open, "p" for what holds ports, "r" to hold none any more, "t" for the socket over which the terminal
comes."""

JOIN = "join"
"""A request: (JOIN, flags, marshalled plan, detached, an execution or None); with reply pipe, stdin, stdout, stderr,
pidfd of the container's first process, and the v2 cgroup as above.

An execution is (directory of the container, id of the execution): its end is told among the container's events."""

ATTACH = "attach"
"""A request: (ATTACH, container id, streams); with reply pipe and the streams' descriptors."""
RESIZE = "resize"
"""A request without answer but the end of the pipe: (RESIZE, container id, rows, columns); with reply pipe."""
RESTART = "restart"
"""A request without answer but the end of the pipe: (RESTART, container id, restart policy, most restarts); with reply
pipe."""

STARTED = "started"
"""An answer: (STARTED, pid, ns of clone, ns of exec, ((first letter of a mark's name, ns), ...)): the program runs."""
ATTACHED = "attached"  # (ATTACHED, bytes of the log that were written before)
FAILED = "failed"  # (FAILED, step, errno, reason, path): it has not, and nothing is left of it
EXITED = "exited"  # (EXITED, exit code, ns)
