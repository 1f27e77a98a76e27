"""Whom events tell of: a container's attributes, prepared for whoever notes what happens to it, and images.

This needs JSON, which the spawner does not import: its side is ``events.py``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

from lab.container import events


def members(attributes: Mapping[str, str]) -> str:
    """Return attributes as the inside of a JSON object, which is how they are handed to the lean side."""
    return json.dumps(dict(attributes))[1:-1]


def actor(run_directory: str, attributes: Mapping[str, str], *, oom_counter: str) -> str:
    """Return the text of a container's ``events.ACTOR_FILE``.

    ``oom_counter`` is a cgroup's file with a line "oom_kill N", which exists while the container runs, or "".
    """
    return "\n".join((os.path.join(run_directory, events.FILE), members(attributes), oom_counter))


def note_image(run_directory: str, action: str, image_id: str, attributes: Mapping[str, str]) -> None:
    """Write down what happened to an image."""
    path = os.path.join(run_directory, events.FILE)
    events.append(path, events.line("image", action, image_id, members(attributes)))


def note_network(run_directory: str, action: str, network_id: str, attributes: Mapping[str, str]) -> None:
    """Write down what happened to a network."""
    path = os.path.join(run_directory, events.FILE)
    events.append(path, events.line("network", action, network_id, members(attributes)))


def note_volume(run_directory: str, action: str, name: str, attributes: Mapping[str, str]) -> None:
    """Write down what happened to a volume."""
    path = os.path.join(run_directory, events.FILE)
    events.append(path, events.line("volume", action, name, members(attributes)))


def note_removal(run_directory: str, image_id: str, *, names: int, is_deleted: bool) -> None:
    """Write down that so many names of an image were taken away, and whether it went with the last one."""
    for action in ("untag",) * names + ("delete",) * is_deleted:
        note_image(run_directory, action, image_id, {"name": image_id})
