"""Events from their file: what docker's ``events`` shows, and what comes; the sides that write are ``events.py`` and
``event_actors.py``.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lab.container import events, labels
from lab.linux import inotify
from lab.units import NS_PER_S

FILTERS = (
    "config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret",
    "service", "type", "volume",
)  # fmt: skip
_CHANGES = inotify.IN_MODIFY | inotify.IN_MOVED_FROM | inotify.IN_MOVED_TO | inotify.IN_CREATE


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that has happened, in docker's words; ``time_ns`` is the time of day."""

    kind: str
    action: str
    actor_id: str
    attributes: Mapping[str, str]
    time_ns: int

    def document(self) -> dict[str, object]:
        """Return docker's JSON object."""
        attributes = dict(sorted(self.attributes.items()))
        old: dict[str, object] = {}
        if self.kind in ("container", "image"):  # only these were there before events had actors
            old = {"status": self.action, "id": self.actor_id}
            if self.kind == "container":
                old["from"] = attributes.get("image", "")
        return {
            **old,
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.actor_id, "Attributes": attributes},
            "scope": "local",
            "time": self.time_ns // NS_PER_S,
            "timeNano": self.time_ns,
        }


def parse(line: bytes) -> Event | None:
    """Return the event in a line; None if it is none, since the disk was full when it was written."""
    try:
        document = json.loads(line)
        return Event(
            kind=document["Type"],
            action=document["Action"],
            actor_id=document["Actor"]["ID"],
            attributes=document["Actor"]["Attributes"],
            time_ns=document["timeNano"],
        )
    except (ValueError, KeyError, TypeError):
        return None


Condition = Callable[[Event], bool]


def conditions(filters: Mapping[str, Sequence[str]]) -> tuple[Condition, ...]:
    """Return what has to hold, all of it; values of one filter are alternatives, but for labels."""
    found = [_label(value) for value in filters.get("label", ())]
    found += [_any(name, filters[name]) for name in filters if name != "label"]
    return tuple(found)


def _any(name: str, values: Sequence[str]) -> Condition:
    holds = _HOLDS.get(name, _names_actor)
    return lambda event: any(holds(event, name, value) for value in values)


def _is_event(event: Event, _: str, value: str) -> bool:
    return value == event.action or (":" in event.action and value == event.action.partition(":")[0])


def _is_type(event: Event, _: str, value: str) -> bool:
    return value == event.kind


def _is_scope(_: Event, __: str, value: str) -> bool:
    return value == "local"


def _is_image(event: Event, _: str, value: str) -> bool:
    names = (event.actor_id, event.attributes.get("name" if event.kind == "image" else "image", ""))
    return event.kind in ("image", "container") and any(value in (name, name.partition(":")[0]) for name in names)


def _names_actor(event: Event, kind: str, value: str) -> bool:
    """Return whether an event is about the actor of this kind with this id, the beginning of it, or this name."""
    if event.kind != kind:
        return False
    return event.attributes.get("name") == value or (bool(value) and event.actor_id.startswith(value))


_HOLDS: Mapping[str, Callable[[Event, str, str], bool]] = {
    "event": _is_event,
    "type": _is_type,
    "scope": _is_scope,
    "image": _is_image,
}


def _label(text: str) -> Condition:
    return lambda event: labels.hold(event.attributes, text)


def shown(event: Event) -> str:
    """Return an event as docker's ``events`` writes it by default, with the time as RFC 3339 has it in this zone."""
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    return f"{local_instant(event.time_ns)} {event.kind} {event.action} {event.actor_id} ({attributes})"


def local_instant(instant_ns: int) -> str:
    """Return a time of day as RFC 3339 has it, in this time zone, with nanoseconds."""
    seconds, nanoseconds = divmod(instant_ns, NS_PER_S)
    local = time.localtime(seconds)
    zone = re.sub(r"(..)$", r":\1", time.strftime("%z", local)).replace("+00:00", "Z")
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{nanoseconds:09d}{zone}"


class EventFile:
    """The events of a root, read forward; to be used in a ``with`` block."""

    def __init__(self, run_directory: str, *, only_new: bool = False) -> None:
        """Begin with the oldest event that is kept, or, ``only_new``, behind the last one."""
        self._directory = run_directory
        self._path = os.path.join(run_directory, events.FILE)
        self._open: list[int] = []
        self._find_files()
        if only_new:
            while len(self._open) > 1:
                os.close(self._open.pop(0))
            for descriptor in self._open:
                os.lseek(descriptor, 0, os.SEEK_END)

    def __enter__(self) -> EventFile:
        """Return the file itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        for descriptor in self._open:
            os.close(descriptor)

    def read(self) -> Iterator[Event]:
        """Give the events that are there now; called again, those since."""
        self._find_files()
        while self._open:
            for line in self._lines():
                event = parse(line)
                if event is not None:
                    yield event
            if len(self._open) == 1:
                return
            os.close(self._open.pop(0))

    def follow(self, until_ns: int | None, *others: int) -> Iterator[Event]:
        """Give the events that are there and those that come, until a time of day (None: for ever).

        It ends as well when one of the ``others`` is readable: descriptors of whom it is done for.
        """
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        with inotify.Watch() as watch:
            watch.add(self._directory, _CHANGES)
            while True:
                left = None if until_ns is None else until_ns - time.time_ns()
                for event in self.read():
                    if until_ns is not None and event.time_ns > until_ns:
                        return
                    yield event
                if (
                    (left is not None and left <= 0)
                    or not (ready := watch.wait(left, *others))
                    or not ready.isdisjoint(others)
                ):
                    return
                watch.read()

    def _find_files(self) -> None:
        """Open what has come after the file that was the last one: at first both, later a file that was begun anew."""
        paths = [path for path in (self._path + events.OLD, self._path) if os.path.exists(path)]
        known = os.fstat(self._open[-1]) if self._open else None
        same = [known is not None and os.path.samestat(os.stat(path), known) for path in paths]
        newer = paths[same.index(True) + 1 :] if True in same else paths
        self._open += [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in newer]

    def _lines(self) -> Iterator[bytes]:
        rest = b""
        while block := os.read(self._open[0], 1 << 16):
            *lines, rest = (rest + block).split(b"\n")
            yield from lines
        if rest:
            os.lseek(self._open[0], -len(rest), os.SEEK_CUR)
