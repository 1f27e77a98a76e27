"""The words for what can fail in every arm, so that the same failure reads the same everywhere."""

from __future__ import annotations

from lab.errors import LabError, TargetError, TargetTimeout
from lab.target.spec import Availability, Command
from lab.units import format_duration_ns


def cannot(error: LabError | OSError, *, hint: str = "see `lab doctor`") -> Availability:
    """Return the answer of a check that ended with ``error``; ``hint`` is for errors that bring none."""
    own = error.hint if isinstance(error, LabError) else ""
    return Availability(available=False, reason=str(error), hint=own or hint)


def took_too_long(command: Command, *, backend: str) -> TargetTimeout:
    """Return the error for a program that had not ended in time and has been killed."""
    after = format_duration_ns(command.timeout_ns)
    message = f"{command.argv[0]} did not end within {after}; it has been killed"
    return TargetTimeout(message, backend=backend, phase="exec")


def no_endpoint(backend: str) -> TargetError:
    """Return the error for a target that is asked where its service answers, and has none."""
    message = "it has no network, no service, or has not been started"
    return TargetError(message, backend=backend, phase="endpoint")
