"""The lab in a process of its own: what `lab-python` and ``python -m lab`` call.

Until the command line is imported, which takes a tenth of a second, a Ctrl-C ends the process as it ends one that knows
nothing of it: by the signal, and without a word.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import NoReturn
else:
    import _signal  # without the other's enumerations


def entry() -> "NoReturn":
    """Carry ``sys.argv`` out, and exit."""
    handler = _signal.getsignal(_signal.SIGINT)
    if handler is _signal.default_int_handler:  # else the caller ignores it
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    from lab.cli import main

    _signal.signal(_signal.SIGINT, handler)
    main.entry()
