"""``python -m lab``: calls the command line, nothing else."""

from __future__ import annotations

from lab.cli.console import entry

entry()
