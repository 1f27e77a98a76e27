"""Pseudo-terminals: the requests of man ioctl_tty(2) on a terminal of devpts."""

from __future__ import annotations

import fcntl
import struct

TIOCSPTLCK = 0x40045431
TIOCGPTPEER = 0x5441
TIOCSWINSZ = 0x5414
_TIOCGWINSZ = 0x5413
TIOCSCTTY = 0x540E
WINSIZE = struct.Struct("=HHHH")  # rows, columns, and two that nobody reads


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; what runs in it gets SIGWINCH if that changes it.

    Raises:
        OSError: with errno.
    """
    fcntl.ioctl(terminal, TIOCSWINSZ, WINSIZE.pack(rows, columns, 0, 0))


def size(terminal: int) -> tuple[int, int]:
    """Return rows and columns of a terminal.

    Raises:
        OSError: with errno; ENOTTY when it is none.
    """
    rows, columns, _, _ = WINSIZE.unpack(fcntl.ioctl(terminal, _TIOCGWINSZ, bytes(WINSIZE.size)))
    return rows, columns
