"""Signals as users name them.

Source: docs.docker.com/reference/cli/docker/container/kill; man signal(7).
"""

from __future__ import annotations

import signal

from lab.errors import SpecError


def signal_number(text: str) -> int:
    """Return the number of a signal: "9", "KILL", "SIGKILL", "RTMIN+3", in any case.

    Raises:
        SpecError: there is none.
    """
    name, plus, offset = text.upper().removeprefix("SIG").partition("+")
    if name.isdigit() and 0 < int(name) < signal.NSIG:
        return int(name)
    found = getattr(signal, f"SIG{name}", None)
    if not isinstance(found, signal.Signals) or (plus and not offset.isdigit()):
        raise SpecError(f"invalid signal: {text}")
    return found + (int(offset) if plus else 0)
