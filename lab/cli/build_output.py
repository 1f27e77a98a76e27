"""How the progress of a build is shown on standard error, step by step, as docker's ``--progress=plain`` does."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from lab.cli import output
from lab.container.image.build_progress import StepTitle
from lab.units import NS_PER_S

_KEPT_LINES = 20
_LINE_BYTES_MAX = 65536
_RULE = "------"


class ProgressMode(StrEnum):
    """How much is shown; ``auto`` and ``tty`` are what suits standard error."""

    AUTO = "auto"
    PLAIN = "plain"
    TTY = "tty"
    QUIET = "quiet"


@dataclass(slots=True)
class _Running:
    """A step that has begun: when, its unfinished line, and its last lines."""

    began_ns: int
    rest: bytes = b""
    last: list[str] = field(default_factory=list)


class BuildOutput:
    """Shows a build; safe to be called from several threads."""

    def __init__(self, mode: ProgressMode) -> None:
        """Show nothing yet."""
        self._quiet = mode is ProgressMode.QUIET
        self._running: dict[int, _Running] = {}
        self._lock = threading.Lock()

    def started(self, step: StepTitle) -> None:
        """Show what begins."""
        with self._lock:
            self._running[step.number] = _Running(time.monotonic_ns())
            self._note(f"#{step.number} {step}")

    def wrote(self, step: StepTitle, data: bytes) -> None:
        """Show whole lines of what a command writes."""
        with self._lock:
            running = self._running[step.number]
            *lines, running.rest = (running.rest + data).split(b"\n")
            if len(running.rest) > _LINE_BYTES_MAX:
                lines, running.rest = [*lines, running.rest], b""
            self._lines(step, running, lines)

    def finished(self, step: StepTitle, *, cached: bool) -> None:
        """Show that a step is done, and how long it took."""
        with self._lock:
            self._end(step, "CACHED" if cached else "DONE")

    def failed(self, step: StepTitle, reason: str) -> None:
        """Show the end of what the failing command wrote once more, since much may have been shown after it."""
        del reason  # it is told at the end
        with self._lock:
            running = self._running[step.number]
            self._end(step, "ERROR")
            output.note(f"{_RULE}\n > {step}:")
            for line in running.last:
                output.note(line)
            output.note(_RULE)

    def noted(self, text: str) -> None:
        """Show a warning."""
        output.note(f"WARNING: {text}")

    def built(self, image_id: str, names: Sequence[str]) -> None:
        """Show what has come out: the id alone on standard output when quiet."""
        if self._quiet:
            output.line(image_id)
            return
        output.line(f"Successfully built {image_id.removeprefix('sha256:')[:12]}")
        for name in names:
            output.line(f"Successfully tagged {name}")

    def _end(self, step: StepTitle, word: str) -> None:
        running = self._running.pop(step.number)
        if running.rest:
            self._lines(step, running, [running.rest])
        seconds = (time.monotonic_ns() - running.began_ns) / NS_PER_S
        self._note(f"#{step.number} {word}" + (f" {seconds:.1f}s" if word == "DONE" else ""))

    def _lines(self, step: StepTitle, running: _Running, lines: Sequence[bytes]) -> None:
        for raw in lines:
            text = raw.decode(errors="replace").rstrip("\r")
            seconds = (time.monotonic_ns() - running.began_ns) / NS_PER_S
            running.last = [*running.last[1 - _KEPT_LINES :], text]
            self._note(f"#{step.number} {seconds:.3f} {text}")

    def _note(self, text: str) -> None:
        if not self._quiet:
            output.note(text)
