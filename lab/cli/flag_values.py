"""Values of flags -> numbers: what docker's command line refuses before it looks at anything else; pure.

Each is the ``type`` of an argument: what it raises is told with the flag and the value, in docker's words.
"""

from __future__ import annotations

from argparse import ArgumentTypeError

from lab.units import parse_bytes, parse_duration_ns

UNLIMITED = -1


def size(text: str) -> int:
    """Return the bytes that "512m" means.

    Raises:
        ArgumentTypeError: it is no size.
    """
    try:
        return parse_bytes(text)
    except ValueError:
        raise ArgumentTypeError(f"invalid size: '{text}'") from None


def size_or_unlimited(text: str) -> int:
    """Return the bytes that "512m" means, ``UNLIMITED`` for -1.

    Raises:
        ArgumentTypeError: it is neither.
    """
    return UNLIMITED if text == "-1" else size(text)


def duration_ns(text: str) -> int:
    """Return the nanoseconds that "1m30s" means; "0" needs no unit, and a sign is taken.

    Raises:
        ArgumentTypeError: it is no duration.
    """
    amount = text[1:] if text.startswith(("-", "+")) else text
    try:
        found = 0 if amount == "0" else parse_duration_ns(amount)
    except ValueError:
        wrong = "missing unit in" if amount.isdecimal() else "invalid"
        raise ArgumentTypeError(f'time: {wrong} duration "{text}"') from None
    return -found if text.startswith("-") else found
