"""What `lab compose` does, as it does it: on standard error, in docker compose's words.

On a terminal each container, network and image has a line that changes; else there is a line for each change.
"""

from __future__ import annotations

import shutil
import sys
import threading
from enum import StrEnum

from lab.cli import output

_DONE = frozenset(
    (
        "Created",
        "Started",
        "Running",
        "Healthy",
        "Exited",
        "Stopped",
        "Removed",
        "Recreated",
        "Pulled",
        "Built",
        "Killed",
    )
)
_FAILED = frozenset(("Error",))
_BLUE, _GREEN, _RED, _PLAIN = "\033[34m", "\033[32m", "\033[31m", "\033[0m"
_UP, _CLEAR = "\033[{}A", "\033[K"


class ProgressMode(StrEnum):
    """How progress is shown."""

    TTY = "tty"
    PLAIN = "plain"
    QUIET = "quiet"


def mode_of(asked: str, *, ansi: str) -> ProgressMode:
    """Return how progress is shown: "auto" is by what standard error is."""
    if asked != "auto":
        return ProgressMode(asked)
    return ProgressMode.TTY if sys.stderr.isatty() and ansi != "never" else ProgressMode.PLAIN


class Progress:
    """Shows progress; safe to be called from several threads."""

    def __init__(self, mode: ProgressMode) -> None:
        """Show nothing yet."""
        self._mode = mode
        self._lock = threading.Lock()
        self._statuses: dict[str, str] = {}
        self._shown_lines = 0

    def progress(self, subject: str, status: str) -> None:
        """Show what something has become."""
        with self._lock:
            self._statuses[subject] = status
            if self._mode == ProgressMode.PLAIN:
                output.note(f" {subject}  {status}")
            elif self._mode == ProgressMode.TTY:
                self._redraw()

    def warn(self, text: str) -> None:
        """Show a warning above what changes."""
        with self._lock:
            self._settle()
            output.note(f"WARNING: {text}")

    def settle(self) -> None:
        """Leave what is shown as it is: what is written next comes below it."""
        with self._lock:
            self._settle()

    def _settle(self) -> None:
        self._statuses.clear()
        self._shown_lines = 0

    def _redraw(self) -> None:
        size = shutil.get_terminal_size()
        rows = list(self._statuses.items())[-(size.lines - 1) :]
        width = max(len(subject) for subject, _ in rows)
        above = _UP.format(self._shown_lines) if self._shown_lines else ""
        lines = (f"{_row(subject, status, width)}{_CLEAR}\n" for subject, status in rows)
        sys.stderr.write(above + "".join(lines))
        sys.stderr.flush()
        self._shown_lines = len(rows)


def _row(subject: str, status: str, width: int) -> str:
    sign, colour = ("✔", _GREEN) if status in _DONE else ("✘", _RED) if status in _FAILED else ("⠿", _BLUE)
    return f" {colour}{sign}{_PLAIN} {subject:<{width}}  {colour}{status}{_PLAIN}"
