"""The lab in a process of its own: what `lab-python` and ``python -m lab`` call.

Until the command line is imported, which takes a tenth of a second, a Ctrl-C ends the process as it ends one that knows
nothing of it: by the signal, and without a word.
"""

from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def entry() -> "NoReturn":
    """Carry ``sys.argv`` out, and exit."""
    handler = getsignal(SIGINT)
    if handler is default_int_handler:  # else the caller ignores it
        signal(SIGINT, SIG_DFL)
    from lab.cli import main

    signal(SIGINT, handler)
    main.entry()
