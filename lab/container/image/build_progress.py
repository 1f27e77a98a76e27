"""What a build tells while it runs; how it is shown is the command line's business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from lab.container.image.dockerfile import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTitle:
    """One step of a build: its number among all, its stage's name, "" for an only one, its place in it, its text."""

    number: int
    stage: str
    position: int
    total: int
    text: str
    place: Place

    def __str__(self) -> str:
        """Return it as it is shown: "[build 2/4] RUN make"."""
        stage = f"{self.stage} " if self.stage else ""
        return f"[{stage}{self.position}/{self.total}] {self.text}"


class Observer(Protocol):
    """Is told what happens; from several threads at once when stages are built side by side."""

    def started(self, step: StepTitle) -> None:
        """A step begins."""

    def wrote(self, step: StepTitle, data: bytes) -> None:
        """Its command has written something."""

    def finished(self, step: StepTitle, *, cached: bool) -> None:
        """It is done, or was done already."""

    def failed(self, step: StepTitle, reason: str) -> None:
        """It failed."""

    def noted(self, text: str) -> None:
        """Something else that the user should know."""
