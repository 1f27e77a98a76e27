"""Pseudo-terminals: the requests of man ioctl_tty(2) on a master of devpts; on the container start path."""

from __future__ import annotations

import fcntl
import os
import struct

_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_TIOCSWINSZ = 0x5414
_TIOCGWINSZ = 0x5413
_TIOCSCTTY = 0x540E
_WINSIZE = struct.Struct("=HHHH")


def open_pair(multiplexer: str) -> tuple[int, int]:
    """Return master and slave of a new terminal of the devpts instance whose ptmx is at ``multiplexer``.

    The slave comes from the master, not from a path, so it is of the same instance whatever is mounted where.

    Raises:
        OSError: with errno and path.
    """
    master = os.open(multiplexer, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("=i", 0))
        return master, fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        os.close(master)
        raise


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Tell a terminal its size; what runs in it gets SIGWINCH if that changes it.

    Raises:
        OSError: with errno.
    """
    fcntl.ioctl(terminal, _TIOCSWINSZ, _WINSIZE.pack(rows, columns, 0, 0))


def size(terminal: int) -> tuple[int, int]:
    """Return rows and columns of a terminal.

    Raises:
        OSError: with errno; ENOTTY when it is none.
    """
    rows, columns, _, _ = _WINSIZE.unpack(fcntl.ioctl(terminal, _TIOCGWINSZ, bytes(_WINSIZE.size)))
    return rows, columns


def set_controlling(terminal: int) -> None:
    """Make a terminal the controlling one of the calling session leader, which has none.

    Raises:
        OSError: with errno.
    """
    fcntl.ioctl(terminal, _TIOCSCTTY, 0)
