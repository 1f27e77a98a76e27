"""What happens to containers and images, written down as it happens: one JSON line an event, in one file of the root.

    run/events.jsonl         the events, each written by one append, so that any number of processes may write
    run/events.jsonl.old     those before, when the file had become too long
    containers/<id>/actor    what is told of a container with each event: where to, its attributes, its OOM kill counter

An event that cannot be written is lost: nothing that happens has to wait for it, or fails with it. Who reads them is in
``event_stream.py``. This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs milliseconds on the container start path
    from collections.abc import Mapping

FILE = "events.jsonl"
OLD = ".old"
ACTOR_FILE = "actor"
_LENGTH_MAX = 16 << 20


def members(attributes: Mapping[str, str]) -> str:
    """Return attributes as the inside of a JSON object, which is how they are handed over; for who is not lean."""
    import json

    return json.dumps(dict(attributes))[1:-1]


def actor(run_directory: str, attributes: Mapping[str, str], *, oom_counter: str) -> str:
    """Return the text of a container's ``ACTOR_FILE``.

    ``oom_counter`` is a cgroup's file with a line "oom_kill N", which exists while the container runs, or "".
    """
    return "\n".join((os.path.join(run_directory, FILE), members(attributes), oom_counter))


class Actor:
    """A container as its events tell of it; one that is removed meanwhile is told of as it was last."""

    def __init__(self, bundle: str) -> None:
        """Tell of the container in this directory; of one without ``ACTOR_FILE`` nothing is told."""
        self._bundle = bundle
        self._text = ""

    def read(self) -> tuple[str, str, str]:
        """Return where its events go, its attributes, and its count of OOM kills, as they are or were last."""
        self._text = _read(os.path.join(self._bundle, ACTOR_FILE)) or self._text
        path, attributes, oom_counter = self._text.split("\n") if self._text else ("", "", "")
        return path, attributes, oom_counter

    def note(self, action: str, more: str = "") -> None:
        """Write down that something happened; ``more`` are further attributes, as from ``members``."""
        path, attributes, _ = self.read()
        if path:
            text = ", ".join(part for part in (attributes, more) if part)
            _append(path, _line("container", action, os.path.basename(self._bundle), text))

    def died(self, code: int) -> None:
        """Write down how the container ended, and before that, if so, that it had run out of memory."""
        oom_counter = self.read()[2]
        if oom_counter and oom_kills(_read(oom_counter)):
            self.note("oom")
        self.note("die", f'"exitCode": "{code}"')


def note(bundle: str, action: str, more: str = "") -> None:
    """Write down what happened to the container in this directory; ``more`` as at ``Actor.note``."""
    Actor(bundle).note(action, more)


def note_image(run_directory: str, action: str, image_id: str, attributes: Mapping[str, str]) -> None:
    """Write down what happened to an image."""
    _append(os.path.join(run_directory, FILE), _line("image", action, image_id, members(attributes)))


def oom_kills(text: str) -> int:
    """Return N of the line "oom_kill N"; 0 if there is none."""
    return sum(int(line[9:]) for line in text.split("\n") if line[:9] == "oom_kill ")


def _line(kind: str, action: str, actor_id: str, attributes: str) -> str:
    escaped = action.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return (
        f'{{"Type": "{kind}", "Action": "{escaped}", "Actor": {{"ID": "{actor_id}", "Attributes": {{{attributes}}}}},'
        f' "scope": "local", "timeNano": {time.time_ns()}}}\n'
    )


def _append(path: str, line: str) -> None:
    try:
        descriptor = _open(path)
        try:
            os.write(descriptor, line.encode("utf-8", "surrogateescape"))
            if os.fstat(descriptor).st_size > _LENGTH_MAX:
                _begin_anew(path, descriptor)
        finally:
            os.close(descriptor)
    except OSError:  # a full disk, a directory that may not be written: see above
        return


def _open(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:  # the first command after a reboot
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _begin_anew(path: str, descriptor: int) -> None:
    ours, there = os.fstat(descriptor), os.stat(path)
    if (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino):  # else another process has been faster
        os.rename(path, path + OLD)


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""
