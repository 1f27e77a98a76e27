"""What happens to containers and images, written down as it happens: one JSON line an event, in one file of the root.

    run/events.jsonl         the events, each written by one append, so that any number of processes may write
    run/events.jsonl.old     those before, when the file had become too long
    containers/<id>/actor    what is told of a container with each event: where to, its attributes, its OOM kill counter
    containers/<id>/networks its networks, one a line: id, and what is told with their events
    containers/<id>/volumes-left  the volumes of its last start, likewise: what is told when it has ended

An event that cannot be written is lost: nothing that happens has to wait for it, or fails with it. Who reads them is in
``event_stream.py``. This file is imported by the spawner: nothing heavy here.
"""

from __future__ import annotations

import os
import time

FILE = "events.jsonl"
OLD = ".old"
ACTOR_FILE = "actor"
NETWORKS_FILE = "networks"
VOLUMES_FILE = "volumes-left"
_LENGTH_MAX = 16 << 20
_READ_BYTES = 1 << 20  # more than labels and counters take; a buffered file would cost three times as much
_ESCAPES = {'"': '\\"', "\\": "\\\\"}


class Actor:
    """A container as its events tell of it; one that is removed meanwhile is told of as it was last."""

    def __init__(self, bundle: str) -> None:
        """Tell of the container in this directory; of one without ``ACTOR_FILE`` nothing is told."""
        self._bundle = bundle
        self._text = ""

    def read(self) -> tuple[str, str, str]:
        """Return where its events go, its attributes, and its count of OOM kills, as they are or were last."""
        self._text = _read(os.path.join(self._bundle, ACTOR_FILE)) or self._text
        path, attributes, oom_counter = (*self._text.split("\n"), "", "")[:3]
        return path, attributes, oom_counter

    def note(self, action: str, more: str = "") -> None:
        """Write down that something happened; ``more`` are further attributes, the inside of a JSON object."""
        path, attributes, _ = self.read()
        if path:
            text = ", ".join(part for part in (attributes, more) if part)
            append(path, line("container", action, os.path.basename(self._bundle), text))

    def died(self, code: int) -> None:
        """Write down how the container ended, and before that, if so, that it had run out of memory."""
        oom_counter = self.read()[2]
        if oom_counter and oom_kills(_read(oom_counter)):
            self.note("oom")
        self.note("die", f'"exitCode": "{code}"')
        self.note_networks("disconnect")
        self.note_volumes_left()

    def note_networks(self, action: str) -> None:
        """Write down that the container has come onto its networks ("connect"), or left them ("disconnect")."""
        path = self.read()[0]
        for network in _read(os.path.join(self._bundle, NETWORKS_FILE)).splitlines() if path else ():
            network_id, _, attributes = network.partition(" ")
            append(path, line("network", action, network_id, attributes))

    def note_volumes_left(self) -> None:
        """Write down that the container has let go of its volumes."""
        path = self.read()[0]
        for volume in _read(os.path.join(self._bundle, VOLUMES_FILE)).splitlines() if path else ():
            name, _, attributes = volume.partition(" ")
            append(path, line("volume", "unmount", name, attributes))


def note(bundle: str, action: str, more: str = "") -> None:
    """Write down what happened to the container in this directory; ``more`` as at ``Actor.note``."""
    Actor(bundle).note(action, more)


def execution(exec_id: str) -> str:
    """Return what tells the events of one execution in a container from those of others."""
    return f'"execID": "{exec_id}"'


def note_end_of_execution(bundle: str, exec_id: str, code: int) -> None:
    """Write down that a program has ended which was executed in the container in this directory."""
    note(bundle, "exec_die", f'{execution(exec_id)}, "exitCode": "{code}"')


def oom_kills(text: str) -> int:
    """Return N of the line "oom_kill N"; 0 if there is none."""
    return sum(int(line[9:]) for line in text.split("\n") if line[:9] == "oom_kill ")


def line(kind: str, action: str, actor_id: str, attributes: str) -> str:
    """Return an event that happens now, as it is written; ``attributes`` are the inside of a JSON object."""
    escaped = "".join(
        _ESCAPES.get(letter) or (letter if letter >= " " else f"\\u{ord(letter):04x}") for letter in action
    )
    return (
        f'{{"Type": "{kind}", "Action": "{escaped}", "Actor": {{"ID": "{actor_id}", "Attributes": {{{attributes}}}}},'
        f' "scope": "local", "timeNano": {time.time_ns()}}}\n'
    )


def append(path: str, text: str) -> None:
    """Write an event to the file at ``path``, if it can be written."""
    try:
        descriptor = _open(path)
        try:
            os.write(descriptor, text.encode("utf-8", "surrogateescape"))
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
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _READ_BYTES).decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)
