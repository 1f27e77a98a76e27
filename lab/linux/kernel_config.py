"""How the running kernel was configured: from /proc/config.gz, or from the file that distributions lay into /boot."""

from __future__ import annotations

import gzip
import os
import platform
from collections.abc import Callable

_BUILT_IN = "/proc/config.gz"


def read() -> dict[str, str] | None:
    """Return the options that are set, without "CONFIG_" ("HZ" -> "250", "KSM" -> "y"); None where no file tells."""
    sources: tuple[tuple[str, Callable[[str], bytes]], ...] = (
        (_BUILT_IN, _unpacked),
        (os.path.join("/boot", f"config-{platform.release()}"), _plain),
    )
    for path, content in sources:
        try:
            return parse(content(path).decode(errors="replace"))
        except FileNotFoundError:
            continue
    return None


def parse(text: str) -> dict[str, str]:
    """Return the options that a configuration file sets; what "is not set" is left out."""
    lines = (line.partition("=") for line in text.splitlines() if line.startswith("CONFIG_"))
    return {name.removeprefix("CONFIG_"): value.strip('"') for name, equals, value in lines if equals}


def _unpacked(path: str) -> bytes:
    with gzip.open(path) as file:
        return file.read()


def _plain(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
