"""How a pull or push is shown: a line for each layer, rewritten in place on a terminal, and plain lines elsewhere."""

from __future__ import annotations

import os
import threading
import time
from typing import TextIO

from lab.container.registry.progress import Step
from lab.units import format_decimal_bytes

_SHORT = 12
_BAR_WIDTH = 50
_REDRAW_S = 0.1
_MOVING = frozenset((Step.DOWNLOADING, Step.EXTRACTING, Step.PUSHING))
_FALLBACK_ROWS, _FALLBACK_COLUMNS, _MARGIN_ROWS = 24, 80, 2


class LayerLines:
    """Docker's lines about layers, written to ``stream``; nothing at all if ``quiet``."""

    def __init__(self, stream: TextIO, *, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._live = stream.isatty()
        self._rows: dict[str, str] = {}
        self._steps: dict[str, Step] = {}
        self._shown_rows = 0
        self._drawn_s = 0.0
        self._lock = threading.Lock()

    def told(self, text: str) -> None:
        """Write a line about the whole; layers that are told of afterwards stand below it."""
        if self._quiet:
            return
        with self._lock:
            self._draw()
            self._rows, self._shown_rows = {}, 0
            self._write(f"{text}\n")

    def layer(self, digest: str, step: Step, *, done_bytes: int = 0, of_bytes: int = 0, detail: str = "") -> None:
        """Show what happens to a layer."""
        if self._quiet:
            return
        name = digest.removeprefix("sha256:")[:_SHORT]
        with self._lock:
            is_new = self._steps.get(name) != step
            self._steps[name] = step
            text = f"{name}: {step}{f' {detail}' if detail else ''}"
            if not self._live:
                if is_new and step not in _MOVING:
                    self._write(f"{text}\n")
                return
            self._rows[name] = text + (f" {bar(done_bytes, of_bytes)}" if of_bytes else "")
            if is_new or time.monotonic() - self._drawn_s >= _REDRAW_S:
                self._draw()

    def _draw(self) -> None:
        """Write all rows over those that are there; as many as the terminal has room for, the last ones."""
        if not self._live or not self._rows:
            return
        rows, columns = self._size()
        texts = [text[: columns - 1] for text in self._rows.values()][-(rows - _MARGIN_ROWS) :]
        up = f"\x1b[{self._shown_rows}A" if self._shown_rows else ""
        self._write(up + "".join(f"\r\x1b[K{text}\n" for text in texts))
        self._shown_rows, self._drawn_s = len(texts), time.monotonic()

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return _FALLBACK_ROWS, _FALLBACK_COLUMNS
        return max(size.lines or _FALLBACK_ROWS, _MARGIN_ROWS + 1), size.columns or _FALLBACK_COLUMNS

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def bar(done_bytes: int, of_bytes: int) -> str:
    """Return docker's bar for a part of a whole: "[====>    ]  1.2MB/3MB"."""
    filled = min(done_bytes * _BAR_WIDTH // of_bytes, _BAR_WIDTH)
    drawn = ("=" * filled)[: _BAR_WIDTH - 1] + ">"
    return f"[{drawn:<{_BAR_WIDTH}}]  {format_decimal_bytes(done_bytes)}/{format_decimal_bytes(of_bytes)}"
