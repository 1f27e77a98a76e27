"""What is told of a pull or push while it goes on."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol


class Step(StrEnum):
    """What happens to a layer, in docker's words."""

    PULLING = "Pulling fs layer"
    WAITING = "Waiting"
    DOWNLOADING = "Downloading"
    RETRYING = "Retrying"
    VERIFYING = "Verifying Checksum"
    DOWNLOADED = "Download complete"
    EXTRACTING = "Extracting"
    PULLED = "Pull complete"
    EXISTS = "Already exists"
    PREPARING = "Preparing"
    PUSHING = "Pushing"
    PUSHED = "Pushed"
    THERE = "Layer already exists"
    MOUNTED = "Mounted from"


class Observer(Protocol):
    """Whoever watches; called from several threads."""

    def told(self, text: str) -> None:
        """Take a line about the whole."""
        ...

    def layer(self, digest: str, step: Step, *, done_bytes: int = 0, of_bytes: int = 0, detail: str = "") -> None:
        """Take what happens to a layer, and how much of it is done."""
        ...
