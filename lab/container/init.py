"""The child of a plan that is carried out in Python: its steps, the report of the one that failed, the exec.

It talks to the spawner as ``machine.c`` does, through a pipe that closes on exec: nine-byte frames for the instants
that are measured, one longer frame for an error, and its end means that the program runs.
"""

from __future__ import annotations

import marshal
import os
import struct
import time

from lab.linux import libc

MARK = "mark"
"""A step of the plan that is not an operation: stamp the clock, under the name that is its argument."""

FRAME = struct.Struct("=cq")
"""Kind (first letter of a mark's name, b"X" right before exec, b"!" before an error), nanoseconds or length."""

EXECUTING = b"X"
FAILED = b"!"
MACHINE_FAILED = b"#"
"""Before the machine's error: number of the instruction, errno; its words and the path, with NUL between them."""

STATUS_NUMBER = 195
"""The child's end of the pipe to the spawner; those up to ``LAST_NUMBER`` are for what a plan is given."""
LAST_NUMBER = 199

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_CLOSE_RANGE_CLOEXEC = 4
_NO_LIMIT = 0xFFFFFFFF
_EXIT_FAILED = 125


Plan = tuple[tuple[str, tuple[object, ...]], ...]
"""Steps as they travel: the name of each with its arguments."""


def prepare() -> None:
    """Import what ``run`` takes: in the spawner, once, and only where there is such a plan."""
    from lab.container import init_ops, interpreter  # noqa: F401


def run(plan: Plan, stdio: tuple[int, ...], status: int) -> None:
    """Carry out ``plan`` in this child; never returns. The last step of a plan is the exec."""
    from lab.container.init_ops import OPERATIONS
    from lab.container.interpreter import Interpreter

    step = "stdio"
    frames = b""  # written together: a wake-up of the spawner for each would take the processor from us

    def tell_executing() -> None:
        # The spawner may have died before die_with_spawner: then this write ends us with EPIPE.
        os.write(status, frames + FRAME.pack(EXECUTING, time.monotonic_ns()))

    try:
        for number, descriptor in enumerate(stdio):
            os.dup2(descriptor, number)
        status = _keep_own_descriptors(status)
        interpreter = Interpreter(tell_executing)
        for step, arguments in plan:
            if step == MARK:
                frames += FRAME.pack(str(arguments[0])[:1].encode(), time.monotonic_ns())
            elif (program := OPERATIONS[step](*arguments)) is not None:
                interpreter.carry_out(program)
    except OSError as error:
        os.write(status, failure(step, error))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        os.write(
            status, _failure_frame(step, 0, repr(error), "")
        )  # a plan that does not fit its operation: a bug, but not a silent one
    finally:
        os._exit(_EXIT_FAILED)


def _keep_own_descriptors(status: int) -> int:
    """Close all that the spawner has open but for what is the plan's; return the status pipe's new number.

    They are closed at once, and not by the exec: through a directory of the host among them, a path of the image
    such as /proc/self/fd/7 would lead out of the container until then.
    """
    os.dup2(status, STATUS_NUMBER, inheritable=False)
    libc.syscall("close_range", 3, STATUS_NUMBER - 1, 0)
    libc.syscall("close_range", LAST_NUMBER + 1, _NO_LIMIT, 0)
    libc.syscall("close_range", STATUS_NUMBER, LAST_NUMBER, _CLOSE_RANGE_CLOEXEC)
    return STATUS_NUMBER


def explain(errno: int, words: str, call: str, reasons: Mapping[int, str]) -> str:
    """Return why a call has failed: a reason of the program's own, or the kernel's, with the call and its words.

    Without an errno the words say all.
    """
    if errno in reasons:
        return reasons[errno]
    if not errno:
        return words
    reason = os.strerror(errno) + (f" ({words})" if words else "")
    return f"{call}: {reason}" if call else reason


def failure(step: str, error: OSError) -> bytes:
    """Return the frame that says that ``step`` failed."""
    return _failure_frame(step, error.errno or 0, error.strerror or str(error), str(error.filename or ""))


def _failure_frame(step: str, errno: int, reason: str, path: str) -> bytes:
    payload = marshal.dumps((step, errno, reason, path))
    return FRAME.pack(FAILED, len(payload)) + payload
