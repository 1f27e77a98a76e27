"""What --filter label=… asks of anything that has labels."""

from __future__ import annotations

from collections.abc import Mapping


def hold(labels: Mapping[str, str], text: str) -> bool:
    """Return whether labels have "KEY", or "KEY=VALUE"."""
    key, equals, value = text.partition("=")
    return key in labels and (not equals or labels[key] == value)
