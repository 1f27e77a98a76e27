"""What charts are made of, as data: the palette, how an arm is drawn, and the rows, bars and lines of each chart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any  # matplotlib spells dashes in too many ways

_ARM_COLOURS = (
    "#3f4650", "#0b69b3", "#b4530a", "#0a7a5c", "#a83f86", "#5b4bb5", "#8a6d00", "#b3261e", "#2d7d8f", "#7d5a45",
)  # fmt: skip
_PHASE_COLOURS = ("#9aa3ad", "#4f8fc9", "#d99a4e", "#b5697f", "#6aa78c", "#8d7cc3")
THEME = {
    "ink": "#1d2025",
    "muted": "#585f69",
    "grid": "#e3e0d9",
    "band": "#d8d4c8",
    "paper": "#ffffff",
    **dict(zip([f"s{index}" for index in range(10)], _ARM_COLOURS, strict=True)),
    **dict(zip([f"p{index}" for index in range(6)], _PHASE_COLOURS, strict=True)),
}
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1, 1.5)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ink:
    """How one arm is drawn everywhere: palette slot and marker; the twin of the baseline is drawn hollow."""

    slot: int
    hollow: bool = False

    @property
    def colour(self) -> str:
        """Its colour for a light page."""
        return THEME[f"s{self.slot % 10}"]

    @property
    def marker(self) -> str:
        """Its marker, the second channel."""
        return MARKERS[self.slot % len(MARKERS)]

    @property
    def face(self) -> str:
        """The marker's inside."""
        return THEME["paper"] if self.hollow else self.colour

    @property
    def dash(self) -> Any:
        """Its line style."""
        return DASHES[(1 if self.hollow else self.slot) % len(DASHES)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Values of one arm, with its name and ink."""

    label: str
    ink: Ink
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """One ratio with its interval, and ``median`` and ``text`` to stand beside it."""

    label: str
    ink: Ink
    ratio: float
    low: float
    high: float
    median: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestGroup:
    """The ratios of one quantity; ``note`` stands under its title, ``tau`` is its noise floor as a share."""

    title: str
    note: str
    tau: float
    rows: Sequence[ForestRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBar:
    """Median phases of one arm [ns] with quartiles, and the total apart: (median, first quartile, third quartile).

    ``count`` is the number of starts behind them.
    """

    label: str
    phases: Sequence[tuple[str, float, float, float]]
    total: tuple[float, float, float]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPoint:
    """One trial in run order."""

    index: int
    value: float
    flagged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """One arm over a swept quantity: (x, median, first quartile, third quartile)."""

    label: str
    ink: Ink
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class DensityLine:
    """Readings of one arm as (instances, value, one had just come) and its line; ``label`` says the slope."""

    label: str
    ink: Ink
    points: Sequence[tuple[int, float, bool]]
    slope: float
    intercept: float
