"""Text with tabs -> aligned columns, as docker's tables are: at least ten wide, three spaces apart; pure.

A cell ends with a tab, so what follows a line's last tab is in no column. Lines that follow each other and have a cell
in a column share its width. Source: https://pkg.go.dev/text/tabwriter.
"""

from __future__ import annotations

import unicodedata

WIDTH_MIN = 10
PADDING = 3


def align(text: str, *, width_min: int = WIDTH_MIN) -> str:
    """Return ``text`` with its tabs replaced by the spaces that align the columns; lines end as they did."""
    rows = [line.split("\t") for line in text.split("\n")]
    _align_block(rows, 0, len(rows), 0, width_min)
    return "\n".join("".join(row) for row in rows)


def _align_block(rows: list[list[str]], begin: int, end: int, column: int, width_min: int) -> None:
    """Widen the cells of a column, and of those to its right, in each run of rows that have the column."""
    row = begin
    while row < end:
        if column >= len(rows[row]) - 1:
            row += 1
            continue
        last = row
        while last < end and column < len(rows[last]) - 1:
            last += 1
        width = max(width_min, *(display_width(rows[index][column]) + PADDING for index in range(row, last)))
        for index in range(row, last):
            rows[index][column] += " " * (width - display_width(rows[index][column]))
        _align_block(rows, row, last, column + 1, width_min)
        row = last


def display_width(text: str) -> int:
    """Return how many terminal columns a text takes: two for wide characters, none for combining ones."""
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
