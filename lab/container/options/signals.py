"""Signals as users name them.

Source: docs.docker.com/reference/cli/docker/container/kill; man signal(7).
"""

from __future__ import annotations

import re
import signal

from lab.errors import SpecError

_REAL_TIME = re.compile(r"RT(MIN\+|MAX-)([0-9]{1,2})")


def signal_number(text: str) -> int:
    """Return the number of a signal: "9", "KILL", "SIGKILL", "RTMIN+3", "RTMAX-2", in any case.

    Raises:
        SpecError: there is none.
    """
    name = text.upper().removeprefix("SIG")
    if name.isdecimal() and 0 < int(name) < signal.NSIG:
        return int(name)
    real_time = _REAL_TIME.fullmatch(name)
    number = _real_time(*real_time.groups()) if real_time else signal.Signals.__members__.get(f"SIG{name}")
    if not number:
        raise SpecError(f"invalid signal: {text}")
    return int(number)


def _real_time(end: str, offset: str) -> int:
    first, last = int(signal.SIGRTMIN), int(signal.SIGRTMAX)
    number = first + int(offset) if end == "MIN+" else last - int(offset)
    return number if first <= number <= last else 0
