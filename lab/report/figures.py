"""Data in, matplotlib figures out: one function per chart, and the only file that knows matplotlib.

House rules: dots and lines on a log axis but never bars, no second y axis, no cut-off bar, a unit on every axis,
and never colour alone: each arm has a marker of its own and each phase a hatch. Colours come from ``THEME`` so
that a page can replace them by its own for light and dark.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any, ParamSpec  # Any: matplotlib spells dashes and settings in too many ways

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Figure  # charts.py speaks of figures, and only this file of matplotlib
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    MultipleLocator,
    NullFormatter,
    NullLocator,
)

from lab.report.shapes import THEME, Curve, DensityLine, ForestGroup, Ink, Line, PhaseBar, RunPoint

HATCHES = ("", "///", "...", "\\\\\\", "xx", "++")
STYLE: Any = {  # Any: matplotlib's stubs want its own enumeration of keys
    "font.family": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": THEME["muted"],
    "axes.labelcolor": THEME["muted"],
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": THEME["ink"],
    "text.color": THEME["ink"],
    "xtick.color": THEME["muted"],
    "ytick.color": THEME["muted"],
    "xtick.labelcolor": THEME["muted"],
    "ytick.labelcolor": THEME["ink"],
    "grid.color": THEME["grid"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "lab",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
WIDTH_IN = 9.2

Format = Callable[[float], str]
P = ParamSpec("P")


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw within the house style and leave matplotlib's settings as they were."""

    @wraps(draw)
    def inner(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(STYLE):
            return draw(*args, **kwargs)

    return inner


def _figure(height_in: float) -> Figure:
    figure = Figure(figsize=(WIDTH_IN, height_in), layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    FigureCanvasAgg(figure)
    return figure


def _log_axis(axes: Axes, low: float, high: float, write: Format, *, binary: bool = False) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.grid(axis="x", which="major")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    if binary:
        axes.xaxis.set_major_locator(FixedLocator(powers_of_two(low, high)))
        axes.xaxis.set_minor_locator(NullLocator())
        return
    decades = math.log10(high / low)
    subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.6 else (1.0, 2.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    axes.xaxis.set_minor_locator(LogLocator(base=10, subs=tuple(range(1, 10)), numticks=100))


def powers_of_two(low: float, high: float) -> list[float]:
    """Return at most ten powers of two between two sizes, evenly spaced: sizes are read in KiB, MiB, GiB."""
    first, last = math.ceil(math.log2(low)), math.floor(math.log2(high))
    step = next(step for step in (1, 2, 5, 10) if (last - first) // step < 10)
    return [2.0**power for power in range(first, last + 1) if power % step == 0]


def _span(values: Sequence[float], room: float = 1.25) -> tuple[float, float]:
    positive = [value for value in values if value > 0]
    return min(positive) / room, max(positive) * room


_HEADING_ROWS = 2.1
"""The height of a group's heading in a forest plot, in rows."""


@styled
def forest(groups: Sequence[ForestGroup]) -> Figure:
    """Draw ratios to the baseline with their intervals around 1, each group in its own band of no difference."""
    heights = [_forest_height(group) for group in groups]
    figure = _figure(0.9 + 0.235 * sum(heights))
    axes = figure.add_subplot()
    ends = [end for group in groups for row in group.rows for end in (row.low, row.high)]
    bands = [end for group in groups for end in _band(group.tau)]
    _log_axis(axes, *_span(ends + bands, 1.18), lambda value: f"{value:g}×")
    axes.axvline(1, color=THEME["muted"], linewidth=0.8)
    places: list[float] = []
    top = 0.0
    for group, height in zip(groups, heights, strict=True):
        places += _forest_group(axes, group, top)
        top += height
    _beside(axes, -0.55, "median", "ratio [95 % interval]", THEME["muted"])
    _rows(axes, places, [row.label for group in groups for row in group.rows])
    axes.set_ylim(top - 0.3, -1.0)
    axes.set_xlabel("ratio to the baseline (log scale)")
    return figure


def _band(tau: float) -> tuple[float, float]:
    return 1 / (1 + tau), 1 + tau  # the floor is as far below 1 as above it, as a log ratio


def _forest_height(group: ForestGroup) -> float:
    return _HEADING_ROWS + _places([row.label for row in group.rows])[1] + 0.3


def _forest_group(axes: Axes, group: ForestGroup, top: float) -> list[float]:
    """Draw one group from ``top`` on and return the places of its rows."""
    within, height = _places([row.label for row in group.rows])
    first = top + _HEADING_ROWS - 0.5
    places = [first + place for place in within]
    low, high = _band(group.tau)
    axes.fill_betweenx([first, first + height], low, high, color=THEME["band"], alpha=0.75, linewidth=0)
    _heading(axes, top, group.title, colour=THEME["ink"], bold=True)
    _heading(axes, top + 0.85, group.note, colour=THEME["muted"], bold=False)
    for place, row in zip(places, group.rows, strict=True):
        axes.plot([row.low, row.high], [place, place], color=row.ink.colour, linewidth=1.8, solid_capstyle="round")
        _dot(axes, row.ratio, place, row.ink, size=6.0)
        _beside(axes, place, row.median, row.text, THEME["ink"])
    return places


def _heading(axes: Axes, y: float, text: str, *, colour: str, bold: bool) -> None:
    axes.annotate(
        text, (0, y), xycoords=("axes fraction", "data"), xytext=(4, 0), textcoords="offset points", va="center",
        fontsize=9 if bold else 8.5, fontweight="bold" if bold else "normal", color=colour,
        bbox={"facecolor": THEME["paper"], "edgecolor": "none", "pad": 2.5},
    )  # fmt: skip


def _beside(axes: Axes, y: float, median: str, text: str, colour: str) -> None:
    """Write a row's median and ratio right of the axes, in two columns."""
    for offset, words, align in ((58, median, "right"), (68, text, "left")):
        axes.annotate(
            words, (1, y), xycoords=("axes fraction", "data"), xytext=(offset, 0), textcoords="offset points",
            va="center", ha=align, fontsize=8.5, color=colour,
        )  # fmt: skip


def _rows(axes: Axes, places: Sequence[float], labels: Sequence[str]) -> None:
    axes.set_yticks(list(places), list(labels), linespacing=1.15)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def _dot(axes: Axes, x: float, y: float, ink: Ink, *, size: float = 5.0, alpha: float = 1.0) -> None:
    axes.plot(
        [x], [y], marker=ink.marker, markersize=size, color=ink.colour, markerfacecolor=ink.face,
        markeredgewidth=1.1, linestyle="none", alpha=alpha, clip_on=False, zorder=4,
    )  # fmt: skip


@styled
def ecdf(
    lines: Sequence[Line], *, write: Format, quantity: str, context: Sequence[tuple[str, float, float]] = ()
) -> Figure:
    """Draw the share of samples at or below each value, and every sample as a dot in its arm's row beneath.

    ``context`` are published spans (label, low, high), drawn in grey under the dots.
    """
    labels = [line.label for line in lines] + [_folded(label) for label, _, _ in context]
    places, rows = _places(labels)
    row_in = 0.27 * rows
    figure = _figure(3.3 + row_in)
    grid = figure.add_gridspec(2, 1, height_ratios=[2.6, max(row_in, 0.4)], hspace=0.02)
    curve = figure.add_subplot(grid[0])
    dots = figure.add_subplot(grid[1], sharex=curve)
    for place, line in zip(places, lines, strict=False):
        _ecdf_curve(curve, line)
        dots.plot(
            line.values, [place] * len(line.values), marker=line.ink.marker, linestyle="none", markersize=4.2,
            color=line.ink.colour, markerfacecolor=line.ink.face, markeredgewidth=0.9, alpha=0.75,
        )  # fmt: skip
    for place, (_, low, high) in zip(places[len(lines) :], context, strict=True):
        dots.plot([low, high], [place] * 2, color=THEME["band"], linewidth=7, solid_capstyle="butt")
        dots.plot([low, high], [place] * 2, color=THEME["muted"], linewidth=0.8, marker="|", markersize=7)
    everything = [value for line in lines for value in line.values] + [end for span in context for end in span[1:]]
    _log_axis(curve, *_span(everything, 1.35), write)
    _quantile_axis(curve)
    _rows(dots, places, labels)
    for label in dots.get_yticklabels()[len(lines) :]:
        label.set(color=THEME["muted"], fontsize=7.5)
    dots.set_ylim(rows, 0)
    dots.grid(axis="x", which="major")
    dots.set_xlabel(f"{quantity} (log scale)")
    curve.tick_params(labelbottom=False)
    return figure


def _places(labels: Sequence[str]) -> tuple[list[float], float]:
    """Return the middle of each row and the height of all, rows with two lines of text being taller."""
    places: list[float] = []
    y = 0.0
    for label in labels:
        height = 1.5 if "\n" in label else 1.0
        places.append(y + height / 2)
        y += height
    return places, y


def _folded(label: str) -> str:
    return "published: " + label.replace(" (", "\n(", 1)


def _ecdf_curve(axes: Axes, line: Line) -> None:
    ordered = np.sort(np.asarray(line.values, dtype=float))
    share = np.arange(1, len(ordered) + 1) / len(ordered)
    x, y = np.concatenate(([ordered[0]], ordered)), np.concatenate(([0.0], share))
    axes.step(x, y, where="post", color=line.ink.colour, linestyle=line.ink.dash, linewidth=1.6)
    middle = float(np.median(ordered))
    _dot(axes, middle, 0.5, line.ink, size=5.5)


def _quantile_axis(axes: Axes) -> None:
    axes.set_ylim(0, 1.03)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 0.9, 1.0], ["0 %", "25 %", "50 %", "75 %", "90 %", "100 %"])
    axes.grid(axis="y")
    axes.set_ylabel("share of starts at or below")


@styled
def phases(panels: Sequence[Sequence[PhaseBar]], *, order: Sequence[str], write: Format, quantity: str) -> Figure:
    """Draw stacked phase medians, a panel per order of magnitude so that no bar is cut or on a log axis.

    The last of ``order`` is time that could not be split; it stands out by being light.
    """
    heights = [sum(0.62 for _ in panel) + 0.42 for panel in panels]
    figure = _figure(sum(heights) + 0.75)
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[index])
        for place, bar in enumerate(panel):
            _phase_bar(axes, place, bar, order)
        widest = max(max(bar.total[2], sum(phase[1] for phase in bar.phases)) for bar in panel)
        axes.set_xlim(0, widest * 1.16)
        axes.set_ylim(len(panel) - 0.35, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == 0 else write(value)))
        axes.grid(axis="x")
        _rows(axes, range(len(panel)), [bar.label for bar in panel])
        for place, bar in enumerate(panel):
            axes.annotate(
                write(bar.total[0]), (bar.total[2], place + 0.33), xytext=(6, 0), textcoords="offset points",
                va="center", fontsize=8.5,
            )  # fmt: skip
    axes.set_xlabel(quantity)
    shown = {name for panel in panels for bar in panel for name, *_ in bar.phases}
    handles = [Patch(**_phase_fill(name, order), label=name) for name in order if name in shown]
    total = Line2D([], [], color=THEME["ink"], marker="D", markersize=4.5, linewidth=1.1, label="total")
    figure.legend(
        handles=[*handles, total], loc="outside upper left", ncols=4, fontsize=8.5, handlelength=1.6, columnspacing=1.6
    )
    return figure


def _phase_fill(name: str, order: Sequence[str]) -> dict[str, Any]:  # Any: matplotlib's keywords
    if name == order[-1]:
        return {"facecolor": THEME["band"], "hatch": "//", "edgecolor": THEME["muted"]}
    slot = order.index(name) % 6
    return {"facecolor": THEME[f"p{slot}"], "hatch": HATCHES[slot], "edgecolor": THEME["paper"]}


def _phase_bar(axes: Axes, place: float, bar: PhaseBar, order: Sequence[str]) -> None:
    left = 0.0
    for name, median, low, high in bar.phases:
        axes.barh(place - 0.08, median, left=left, height=0.42, linewidth=0.6, **_phase_fill(name, order))
        if high > low:
            axes.plot([left + low, left + high], [place - 0.08] * 2, color=THEME["ink"], linewidth=1.0, marker="|",
                      markersize=4)  # fmt: skip
        left += median
    median, low, high = bar.total
    axes.plot([low, high], [place + 0.33] * 2, color=THEME["ink"], linewidth=1.1)
    axes.plot([median], [place + 0.33], marker="D", markersize=4.5, color=THEME["ink"])


@styled
def dot_rows(
    rows: Sequence[tuple[str, Sequence[Line]]], *, write: Format, quantity: str, binary: bool = False
) -> Figure:
    """Draw medians as dots, a row per quantity and an arm per marker, with a thin line from p10 to p90.

    A row without any line is left out.
    """
    rows = [(name, lines) for name, lines in rows if lines]
    figure = _figure(1.0 + 0.15 * sum(len(lines) + 1 for _, lines in rows))
    axes = figure.add_subplot()
    places, y = [], 0.0
    inks: dict[str, Ink] = {}
    for _, lines in rows:
        places.append(y + (len(lines) - 1) / 2)
        for line in lines:
            low, middle, high = np.percentile(line.values, [10, 50, 90])
            # a log axis ends above zero, and the line must still reach its mark
            low = max(low, min([middle, *(value for value in line.values if value > 0)]))
            axes.plot([low, high], [y, y], color=line.ink.colour, linewidth=1.1, alpha=0.7)
            _dot(axes, float(middle), y, line.ink, size=5.6)
            inks.setdefault(line.label, line.ink)
            y += 1
        axes.axhline(y, color=THEME["grid"], linewidth=0.7)
        y += 1
    _log_axis(
        axes, *_span([value for _, lines in rows for line in lines for value in line.values], 1.5), write, binary=binary
    )
    _rows(axes, places, [name for name, _ in rows])
    axes.set_ylim(y - 0.9, -0.9)
    axes.set_xlabel(f"{quantity} (log scale)")
    figure.legend(handles=_handles(inks), loc="outside upper left", ncols=5, fontsize=8.5, columnspacing=1.4)
    return figure


def _handles(inks: Mapping[str, Ink], *, dashed: bool = False) -> list[Line2D]:
    return [
        Line2D(
            [], [], marker=ink.marker, color=ink.colour, markerfacecolor=ink.face, label=name.replace("\n", ", "),
            linestyle=ink.dash if dashed else "none", markersize=5.5, linewidth=1.3,
        )
        for name, ink in inks.items()
    ]  # fmt: skip


@styled
def run_order(lines: Sequence[tuple[str, Ink, Sequence[RunPoint]]], steal: Sequence[tuple[int, float]], *,
              write: Format, quantity: str, order: str) -> Figure:  # fmt: skip
    """Draw each trial in the order it ran, flagged ones ringed, above the steal time taken from it.

    ``order`` names the axis that both share.
    """
    figure = _figure(4.4)
    grid = figure.add_gridspec(2, 1, height_ratios=[3.2, 1])
    upper = figure.add_subplot(grid[0])
    lower = figure.add_subplot(grid[1], sharex=upper)
    for _, ink, points in lines:
        upper.plot(
            [p.index for p in points], [p.value for p in points], marker=ink.marker, linestyle=ink.dash, linewidth=0.7,
            markersize=4.2, color=ink.colour, markerfacecolor=ink.face, markeredgewidth=0.9,
        )  # fmt: skip
        flagged = [p for p in points if p.flagged]
        upper.plot([p.index for p in flagged], [p.value for p in flagged], marker="o", linestyle="none", markersize=9,
                   markerfacecolor="none", markeredgecolor=THEME["muted"], markeredgewidth=0.7)  # fmt: skip
    upper.set_yscale("log")
    upper.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    upper.yaxis.set_minor_formatter(NullFormatter())
    upper.grid(axis="y")
    upper.set_ylabel(quantity.replace(", ", ",\n") + "\n(log scale)")
    upper.tick_params(labelbottom=False)
    lower.vlines([x for x, _ in steal], 0, [y for _, y in steal], color=THEME["s7"], linewidth=1.1)
    lower.set_ylim(0, max([y for _, y in steal] + [1]) * 1.15)
    lower.yaxis.set_major_locator(MaxNLocator(3))
    lower.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == 0 else write(value)))
    lower.set_ylabel("steal time\nin the trial")
    lower.set_xlabel(order)
    inks = {label: ink for label, ink, _ in lines}
    figure.legend(handles=_handles(inks, dashed=True), loc="outside upper left", ncols=5, fontsize=8.5)
    return figure


@styled
def sweep(panels: Sequence[tuple[str, Sequence[Curve]]], *, write: Format, x_label: str, y_label: str,
          log: bool = True) -> Figure:  # fmt: skip
    """Draw small multiples that share both axes: a panel per quantity, a curve per arm."""
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    figure = _figure(0.8 + 2.5 * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    inks: dict[str, Ink] = {}
    xs = sorted({point[0] for _, curves in panels for curve in curves for point in curve.points})
    for axes, (title, curves) in zip(grid.flat, panels, strict=False):
        for curve in curves:
            inks.setdefault(curve.label, curve.ink)
            _curve(axes, curve, xs)
        axes.set_title(title)
        axes.set_xticks(range(len(xs)), [f"{x:g}" for x in xs])
        axes.grid(axis="y")
        if log:
            axes.set_yscale("log")
            axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    if not log:
        grid.flat[0].set_ylim(bottom=0)
    figure.supxlabel(x_label, fontsize=9, color=THEME["muted"])
    figure.supylabel(y_label + (" (log scale)" if log else ""), fontsize=9, color=THEME["muted"])
    figure.legend(handles=_handles(inks, dashed=True), loc="outside upper left", ncols=5, fontsize=8.5)
    return figure


def _curve(axes: Axes, curve: Curve, xs: Sequence[float]) -> None:
    places = [xs.index(point[0]) for point in curve.points]
    axes.vlines(places, [p[2] for p in curve.points], [p[3] for p in curve.points], color=curve.ink.colour,
                linewidth=0.9, alpha=0.7)  # fmt: skip
    axes.plot(
        places, [p[1] for p in curve.points], marker=curve.ink.marker, linestyle=curve.ink.dash, linewidth=1.4,
        color=curve.ink.colour, markerfacecolor=curve.ink.face, markersize=5,
    )  # fmt: skip


@styled
def density(panels: Sequence[Sequence[DensityLine]], *, write: Format, quantity: str, instances: str) -> Figure:
    """Draw memory against the number of instances, a panel per order of magnitude, each from zero."""
    heights = [1.5 + 0.25 * len(panel) for panel in panels]
    figure = _figure(sum(heights) + 0.6)
    grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False, height_ratios=heights)
    most = max(point[0] for panel in panels for line in panel for point in line.points)
    for axes, panel in zip(grid.flat, panels, strict=True):
        for line in panel:
            _density_line(axes, line, most)
        values = [point[1] for line in panel for point in line.points] + [line.intercept for line in panel]
        low, high = min(0.0, *values), max(0.0, *values)  # MemAvailable may have grown: a drop below zero
        axes.set_ylim(low * 1.1, high * 1.1)
        axes.yaxis.set_major_locator(MultipleLocator(binary_step(high - low)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: "0" if value == 0 else write(value)))
        axes.grid(axis="y")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, labelspacing=0.9)
    grid.flat[-1].set_xticks(range(most + 1))
    grid.flat[-1].set_xlim(0, most + 0.4)
    grid.flat[-1].set_xlabel(instances)
    figure.supylabel(quantity, fontsize=9, color=THEME["muted"])
    return figure


def binary_step(span: float) -> float:
    """Return the power of two that divides an axis of this length into two to four parts."""
    return 2.0 ** (math.frexp(span)[1] - 2)


def _density_line(axes: Axes, line: DensityLine, most: int) -> None:
    ends = np.array([0.0, most + 0.3])
    axes.plot(
        ends, line.intercept + line.slope * ends, color=line.ink.colour, linestyle=line.ink.dash, linewidth=1.3,
        marker=line.ink.marker, markersize=5, markerfacecolor=line.ink.face, markevery=[], label=line.label,
    )  # fmt: skip
    for came, face in ((True, line.ink.colour), (False, THEME["paper"])):
        points = [point for point in line.points if point[2] is came]
        axes.plot(
            [point[0] for point in points], [point[1] for point in points], marker=line.ink.marker,
            markersize=4.4, linestyle="none", color=line.ink.colour, markerfacecolor=face, markeredgewidth=0.9,
            alpha=0.8,
        )  # fmt: skip


def to_svg(figure: Figure) -> bytes:
    """Return the figure as SVG without paper behind it."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="none")
        # the layout is settled: solving it again for the next format would double the time
        figure.set_layout_engine("none")
    return buffer.getvalue()


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG on white paper, so that it can be read on any page."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return buffer.getvalue()
