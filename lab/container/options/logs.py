"""How a container's log is kept: docker's --log-driver and --log-opt -> what its supervisor is told; pure.

Source: docs.docker.com/engine/logging/drivers/json-file; github.com/moby/moby, daemon/logger/jsonfilelog.
"""

from __future__ import annotations

from collections.abc import Mapping

from lab.errors import SpecError
from lab.units import parse_bytes

NO_LOG = "none"
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")
_ACCEPTED = frozenset(
    ("env", "env-regex", "labels", "labels-regex", "max-buffer-size", "mode", "tag")
)  # of no effect on a log that is a file of plain lines


def limits(driver: str, options: Mapping[str, str]) -> tuple[int, int, bool] | None:
    """Return most bytes in a file (0: any number), most files (0: no log), and whether full ones are compressed.

    None where nothing is limited.

    Raises:
        SpecError: there is no such option, or its value is none.
    """
    unknown = sorted(set(options) - _ACCEPTED - {"max-size", "max-file", "compress"})
    if unknown:
        raise SpecError(f"unknown log opt '{unknown[0]}' for {driver} log driver", hint="max-size, max-file")
    most_files = _files(options.get("max-file", "1"))
    most_bytes = _bytes(options.get("max-size", ""))
    compresses = _truth(options.get("compress", "false"))
    if driver == NO_LOG:
        return 0, 0, False
    if compresses and (most_files < 2 or not most_bytes):
        reason = "compress cannot be true when max-file is less than 2 or max-size is not set"
        raise SpecError(reason, hint="--log-opt max-size=10m --log-opt max-file=3")
    return (most_bytes, most_files, compresses) if most_bytes else None


def _truth(text: str) -> bool:
    if text not in (*_TRUE, *_FALSE):
        raise SpecError(f'strconv.ParseBool: parsing "{text}": invalid syntax', hint="compress=true")
    return text in _TRUE


def _files(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise SpecError(f"max-file cannot be less than 1: '{text}'")
    return int(text)


def _bytes(text: str) -> int:
    if text in ("", "-1"):
        return 0
    try:
        size = parse_bytes(text)
    except ValueError:
        size = 0
    if not size:
        raise SpecError(f"max-size must be a positive number: '{text}'", hint="such as 10m")
    return size
