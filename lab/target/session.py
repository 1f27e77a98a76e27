"""A target's lifetime as a ``with`` block: whatever happens inside, nothing is left afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lab.target.protocol import Backend, Target
from lab.target.spec import MarkSink, TargetSpec


@contextmanager
def open_target(backend: Backend, spec: TargetSpec, marks: MarkSink) -> Iterator[Target]:
    """Provision a target, hand it over, and destroy it at the end.

    If both the body and the destruction fail, the body's error is raised with the other as a note.
    """
    target = backend.provision(spec, marks)
    try:
        yield target
    except BaseException as error:
        try:
            target.destroy()
        except Exception as clean_up_error:  # both errors must be seen; the first one is the cause
            error.add_note(f"and destroying the target failed too: {clean_up_error}")
        raise
    target.destroy()
