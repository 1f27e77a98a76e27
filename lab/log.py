"""Logging set-up: one line for a human on a terminal, JSON lines otherwise. Not for results."""

from __future__ import annotations

import json
import logging
import sys


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def set_up(*, level: str = "warning") -> None:
    """Send the log of package ``lab`` to standard error at ``level``; called once, by the command line."""
    handler = logging.StreamHandler()
    human = logging.Formatter("lab: %(levelname)s: %(name)s: %(message)s")
    handler.setFormatter(human if sys.stderr.isatty() else _JsonLines())
    root = logging.getLogger("lab")
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    root.propagate = False
