"""A target's lifetime as a ``with`` block: whatever happens inside, nothing is left afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from lab.target.protocol import Backend, Target
from lab.target.spec import MarkSink, TargetSpec

Shield = Callable[[], AbstractContextManager[None]]
"""Makes a block in which an interruption by the user waits until the block's end."""


@contextmanager
def open_target(
    backend: Backend, spec: TargetSpec, marks: MarkSink, *, shield: Shield = nullcontext
) -> Iterator[Target]:
    """Provision a target, hand it over, and destroy it at the end; both are done behind ``shield``.

    If both the body and the destruction fail, the body's error is raised with the other as a note.
    """
    target = None
    try:
        with shield():
            target = backend.provision(spec, marks)
        yield target
    except BaseException as error:
        if target is not None:
            _destroy_after(error, target, shield)
        raise
    with shield():
        target.destroy()


def _destroy_after(error: BaseException, target: Target, shield: Shield) -> None:
    try:
        with shield():
            target.destroy()
    except Exception as clean_up_error:  # both errors must be seen; the first one is the cause
        error.add_note(f"and destroying the target failed too: {clean_up_error}")
