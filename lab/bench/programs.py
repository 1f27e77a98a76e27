"""The binaries that a run measures, found in the layers of its images, by digest."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence

_MOST_LINKS = 40


def digest(layers: Sequence[str], path: str) -> str | None:
    """Return the sha256 of a program in an image; ``layers`` are directories, topmost first; None if it has none."""
    found = _find(layers, path)
    if found is None:
        return None
    with open(found, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _find(layers: Sequence[str], path: str) -> str | None:
    """Return where a file of the image lies on the host; links are followed as inside the image."""
    left, at, links = path.strip("/").split("/"), "", 0
    found: str | None = None
    while left:
        name, *left = left
        if name in ("", "."):
            continue
        at = os.path.dirname(at) if name == ".." else f"{at}/{name}"
        found = _topmost(layers, at)
        if found is None:
            return None
        if os.path.islink(found):
            links += 1
            if links > _MOST_LINKS:
                return None
            target = os.readlink(found)
            at = "" if target.startswith("/") else os.path.dirname(at)
            left = [*target.strip("/").split("/"), *left]
    return found if found is not None and os.path.isfile(found) else None


def _topmost(layers: Sequence[str], path: str) -> str | None:
    """Return a path in the topmost layer that has it; a whiteout there means that no layer has."""
    for layer in layers:
        candidate = f"{layer}{path}"
        if os.path.lexists(candidate):
            return None if stat.S_ISCHR(os.lstat(candidate).st_mode) else candidate
    return None
