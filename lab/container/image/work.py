"""The directory in which an image is made: empty at the start, gone at the end, whatever happens between."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.container.image.store import ImageStore
from lab.container.storage.snapshots import unmount_below
from lab.container.storage.trees import remove_tree

Progress = Callable[[str], None]
"""Called with one line about what begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a maker gets: the image's name, the store, an empty directory of its own, and the wishes of the caller.

    ``epoch_s`` is SOURCE_DATE_EPOCH: the time of creation, and no file is younger.
    """

    name: str
    store: ImageStore
    work: str
    progress: Progress
    epoch_s: int | None


@contextmanager
def work_directory(path: str) -> Iterator[str]:
    """Give an empty directory at ``path``; the caller holds the lock that goes with it.

    What a killed predecessor left there, mounts included, is removed first.
    """
    _remove(path)
    os.makedirs(path, mode=0o755)
    try:
        yield path
    finally:
        _remove(path)


def _remove(path: str) -> None:
    unmount_below(path)
    if os.path.isdir(path):
        remove_tree(path)
