"""Progress as docker's clients read it: one JSON object a line, as it happens, and errors among them once it has begun.

Source: github.com/moby/moby, pkg/jsonmessage and pkg/streamformatter.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping

from lab.api.http import JSON, Connection
from lab.container.image.build_progress import StepTitle
from lab.container.registry.progress import Step
from lab.errors import LabError
from lab.units import NS_PER_S

_SHORT = 12
_MOVING = frozenset((Step.DOWNLOADING, Step.EXTRACTING, Step.PUSHING))
_REDRAW_NS = NS_PER_S // 10


class JsonStream:
    """An answer of JSON lines, begun with the first of them; safe to be written to by several threads."""

    def __init__(self, connection: Connection, *, quiet: bool = False) -> None:
        """``quiet`` leaves progress out, not what comes of it."""
        self._connection, self._quiet = connection, quiet
        self._lock = threading.Lock()

    def write(self, message: Mapping[str, object]) -> None:
        """Send a line.

        Raises:
            ClientGone: nobody takes it.
        """
        with self._lock:
            if not self._connection.has_answered:
                self._connection.begin(JSON)
            self._connection.write(json.dumps(message, ensure_ascii=False).encode("utf-8", "replace") + b"\r\n")

    def progress(self, message: Mapping[str, object]) -> None:
        """Send a line that is about what is going on."""
        if not self._quiet:
            self.write(message)

    def end(self) -> None:
        """End the answer, an empty one if there was no line."""
        if not self._connection.has_answered:
            self._connection.begin(JSON)
        self._connection.end()

    def fail(self, error: LabError, message: str) -> None:
        """Tell of an error amid the stream, and end it; before the first line it is raised, to be an answer of its own.

        Raises:
            LabError: the error itself.
        """
        if not self._connection.has_answered:
            raise error
        self.write({"errorDetail": {"code": error.exit_code, "message": message}, "error": message})
        self.end()


class TransferLines:
    """A pull or a push as JSON lines."""

    def __init__(self, stream: JsonStream) -> None:
        """Nothing has been told yet."""
        self._stream = stream
        self._seen: dict[str, tuple[Step, int]] = {}

    def told(self, text: str) -> None:
        """Send a line about the whole."""
        self._stream.progress({"status": text})

    def layer(self, digest: str, step: Step, *, done_bytes: int = 0, of_bytes: int = 0, detail: str = "") -> None:
        """Send what happens to a layer; what only moves on is sent now and then."""
        name, now_ns = digest.removeprefix("sha256:")[:_SHORT], time.monotonic_ns()
        before, sent_ns = self._seen.get(name, (None, 0))
        if before == step and step in _MOVING and now_ns - sent_ns < _REDRAW_NS:
            return
        self._seen[name] = (step, now_ns)
        moved = {"current": done_bytes, "total": of_bytes} if of_bytes else {}
        text = f"{step} {detail}" if detail else str(step)
        self._stream.progress({"status": text, "progressDetail": moved, "id": name})


class BuildLines:
    """A build as JSON lines, in the words of docker's classic builder."""

    def __init__(self, stream: JsonStream) -> None:
        """Nothing has begun yet."""
        self._stream = stream

    def _say(self, text: str) -> None:
        self._stream.progress({"stream": text})

    def started(self, step: StepTitle) -> None:
        """Send what begins."""
        stage = f" [{step.stage}]" if step.stage else ""
        self._say(f"Step {step.position}/{step.total}{stage} : {step.text}\n")

    def wrote(self, step: StepTitle, data: bytes) -> None:
        """Send what a command writes."""
        del step  # docker's clients have no place for it
        self._say(data.decode(errors="replace"))

    def finished(self, step: StepTitle, *, cached: bool) -> None:
        """Send that a step had been done before."""
        del step
        if cached:
            self._say(" ---> Using cache\n")

    def failed(self, step: StepTitle, reason: str) -> None:
        """Send nothing: the error ends the stream."""

    def noted(self, text: str) -> None:
        """Send a warning."""
        self._say(f"[Warning] {text}\n")
