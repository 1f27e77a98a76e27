"""prctl(2): attributes of the calling process."""

from __future__ import annotations

from lab.linux.libc import syscall

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_SECUREBITS = 28
SECBIT_NO_SETUID_FIXUP = 4
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_CLEAR_ALL = 4
PR_CAP_AMBIENT_RAISE = 2
PR_SET_KEEPCAPS = 8


def prctl(option: int, argument: int, argument3: int = 0) -> None:
    """Set an attribute of the calling process.

    Raises:
        OSError: with errno and "prctl OPTION".
    Source: man prctl(2).
    """
    syscall("prctl", option, argument, argument3, 0, 0, path=f"prctl {option}")
